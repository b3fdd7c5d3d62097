// One command, traced from its start to its end.
#pragma once

#include <string>
#include <vector>

#include "daemon/cli/outcome.hpp"

namespace moetrace::cli {

struct RunOptions {
  std::string output;
  std::string plot_dir;  // empty: no pictures
  std::vector<std::string> publish;
  bool wait = false;  // for an engine that COMMAND has left in the background
  std::vector<std::string> command;
};

// COMMAND's exit code, 128 + N if signal N ended it. If that is 0 and a trace is missing or not
// complete: 1.
Outcome run_traced(const RunOptions& options);

}  // namespace moetrace::cli
