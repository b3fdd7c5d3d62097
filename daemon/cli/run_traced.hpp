// Traces one command from its start to its end.
#pragma once

#include <string>
#include <vector>

#include "daemon/cli/outcome.hpp"

namespace moetrace::cli {

struct RunOptions {
  std::string output;
  // "": no pictures.
  std::string plot_dir;
  std::vector<std::string> publish;
  // Wait for an engine that COMMAND has left in the background.
  bool wait = false;
  // "": the default ring directory. Otherwise COMMAND gets it as MOETRACE_DIR.
  std::string directory;
  std::vector<std::string> command;
};

// COMMAND's exit code, or 128 + N if signal N ended it. 1 if COMMAND succeeded and a trace is
// missing or incomplete.
Outcome run_traced(const RunOptions& options);

}  // namespace moetrace::cli
