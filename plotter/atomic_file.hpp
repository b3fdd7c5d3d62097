// Files that are there as a whole or not at all.
#pragma once

#include <string>
#include <string_view>

#include "trace/errors.hpp"

namespace moetrace::plot {

// Writes beside `path` and renames: a reader sees the old bytes or the new ones. Error: kWrite.
trace::Result<void> write_atomically(const std::string& path, std::string_view bytes);

// With the folders above it; fine if it is there. Error: kWrite.
trace::Result<void> make_folder(const std::string& path);

}  // namespace moetrace::plot
