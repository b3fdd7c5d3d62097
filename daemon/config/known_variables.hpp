// Finds mistyped MOETRACE_ variables in the environment.
#pragma once

#include <string>
#include <vector>

namespace moetrace {

// A line for each MOETRACE_ variable that no program knows, and whose name is near one that a
// program does: `own`, or a variable of the hook, the Python package or the scripts. Other unknown
// names may be a user's own.
std::vector<std::string> mistyped_variables(const std::vector<std::string>& own);

}  // namespace moetrace
