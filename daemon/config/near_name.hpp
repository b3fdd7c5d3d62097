// Finds the name that a mistyped one was meant to be.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace moetrace {

// The name nearest to `text`, counted in characters that are missing, added, changed or swapped
// with their neighbour. "" if none is near: more than a third of its characters differ.
std::string near_name(std::string_view text, const std::vector<std::string>& names);

}  // namespace moetrace
