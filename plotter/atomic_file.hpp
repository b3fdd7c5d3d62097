// Files that appear completely or not at all.
#pragma once

#include <string>
#include <string_view>

#include "trace/errors.hpp"

namespace moetrace::plot {

// Writes a draft beside `path` and renames it: a reader sees the old bytes or the new ones. Error:
// kWrite.
trace::Result<void> write_atomically(const std::string& path, std::string_view bytes);

// Makes the folder and those above it; an existing folder is fine. Error: kWrite.
trace::Result<void> make_folder(const std::string& path);

}  // namespace moetrace::plot
