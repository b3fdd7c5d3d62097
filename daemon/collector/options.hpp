// The settings of moetraced. The command line goes before the configuration file, that before the
// defaults.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "daemon/collector/rows_form.hpp"
#include "shm/abi.h"
#include "shm/errors.hpp"

namespace moetrace {

struct CollectorOptions {
  std::string session = "default";
  // The ring directory.
  std::string directory;
  // One file for each trace goes here, unless `output` is set.
  std::string output_dir = ".";
  std::string output;
  // Endpoints. Empty: the default one; {"none"}: publish nothing.
  std::vector<std::string> publish;
  // "": no pictures.
  std::string plot_dir;
  // Only these layers are written.
  moetrace_layer_mask layers{{~0ull, ~0ull, ~0ull, ~0ull}};
  // Where rows go: to lines, or to a rows file in this form.
  bool arrow_rows = false;
  RowWeights weights = RowWeights::kFloat32;
  RowCompression compression = RowCompression::kFast;
  bool once = false;
  // Print only errors and warnings.
  bool quiet = false;
  int ready_fd = -1;
};

// Parses the command line. kBadArgument for a usage error. `help`: print this text and end (--help,
// --version).
struct ParsedOptions {
  CollectorOptions options;
  std::optional<std::string> help;
};
Result<ParsedOptions> parse_collector_options(int argc, const char* const* argv);

}  // namespace moetrace
