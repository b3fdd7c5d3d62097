// A line of a trace, or of the stats, in short for people.
#pragma once

#include <string>
#include <string_view>

namespace moetrace::cli {

// A line that is not understood comes back as it is.
std::string short_line(std::string_view json_line);

}  // namespace moetrace::cli
