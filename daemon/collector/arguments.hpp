// The command line of moetraced.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "daemon/collector/settings.hpp"

namespace moetrace {

struct Arguments {
  CollectorSettings settings;
  // Lines about mistyped environment variables.
  std::vector<std::string> warnings;
  // Print this text and end: --help, --version, --print-config.
  std::optional<std::string> text;
};

// Parses the command line, and reads the settings. kBadArgument for a usage error or a bad setting.
Result<Arguments> parse_arguments(int argc, const char* const* argv);

}  // namespace moetrace
