// Reads a configuration file: a JSON object with // and /* */ comments.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "daemon/config/json.hpp"
#include "shm/errors.hpp"

namespace moetrace {

// Keys and values, in the file's order; each key once.
using ConfigEntries = std::vector<std::pair<std::string, ConfigJson>>;

// kBadArgument if the path can't be read or is not a regular file, or if the text has more than
// 1 MiB, is not a JSON object (the line says where), or has a key twice. The error line begins with
// the path.
Result<ConfigEntries> read_config_file(const std::string& path);

// The same for the file's text.
Result<ConfigEntries> parse_config(const std::string& path, const std::string& text);

}  // namespace moetrace
