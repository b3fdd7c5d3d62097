// The lines that `moetrace run` prints at its end.
#pragma once

#include <string>
#include <vector>

#include "daemon/cli/run_rings.hpp"

namespace moetrace::cli {

// Prints a line to standard error.
void say(const std::string& line);

// Prints a line for each file and for each ring that is left. True if there is a trace, and all
// traces are complete and good.
bool report_run(const std::string& directory, const std::string& session, const std::string& output,
                const std::vector<std::string>& files, const std::vector<RingLeft>& left);

}  // namespace moetrace::cli
