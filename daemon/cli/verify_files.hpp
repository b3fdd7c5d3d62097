// Verifies trace files; parts of one trace are verified together.
#pragma once

#include <string>
#include <vector>

#include "daemon/cli/outcome.hpp"
#include "daemon/cli/verifier.hpp"

namespace moetrace::cli {

// Reads and checks a whole file. The error is "FILE: line N: why; what to try".
boost::system::result<TraceSummary, Failure> verify_trace(const std::string& path);
// The same for the parts of one trace, in their order.
boost::system::result<TraceSummary, Failure> verify_trace(const std::vector<std::string>& parts);

// The files that are verified together, in the order in which each trace first appears: those that
// carry one trace id, in the order of their parts. Copies of a part stay alone.
std::vector<std::vector<std::string>> group_parts(const std::vector<std::string>& files);

}  // namespace moetrace::cli
