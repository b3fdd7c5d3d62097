// Shortens a trace line or a stats line for people.
#pragma once

#include <string>
#include <string_view>

namespace moetrace::cli {

// Returns an unknown line unchanged.
std::string short_line(std::string_view json_line);

}  // namespace moetrace::cli
