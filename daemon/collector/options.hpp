// What moetraced was asked to do: command line over configuration file over defaults.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "shm/abi.h"
#include "shm/errors.hpp"

namespace moetrace {

struct CollectorOptions {
  std::string session = "default";
  std::string directory;             // ring directory
  std::string output_dir = ".";      // one file a trace, unless `output` is given
  std::string output;                // one file
  std::vector<std::string> publish;  // endpoints; empty: the default one; {"none"}: nothing
  std::string plot_dir;              // empty: no pictures
  moetrace_layer_mask layers{{~0ull, ~0ull, ~0ull, ~0ull}};  // the only ones that are written
  bool once = false;
  bool quiet = false;  // only errors and warnings
  int ready_fd = -1;
};

// Parses the command line; a usage error has kBadArgument. `help`: a text to be printed instead of
// running (--help, --version).
struct ParsedOptions {
  CollectorOptions options;
  std::optional<std::string> help;
};
Result<ParsedOptions> parse_collector_options(int argc, const char* const* argv);

}  // namespace moetrace
