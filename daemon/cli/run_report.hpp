// What `moetrace run` says at its end.
#pragma once

#include <string>
#include <vector>

#include "daemon/cli/run_rings.hpp"

namespace moetrace::cli {

// A line on standard error.
void say(const std::string& line);

// A line for each file and for each ring that is left. True if every trace is complete and right,
// and there is one.
bool report_run(const std::string& session, const std::string& output,
                const std::vector<std::string>& files, const std::vector<RingLeft>& left);

}  // namespace moetrace::cli
