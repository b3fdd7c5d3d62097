// Verifies trace files; parts of one trace are verified together.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "trace/errors.hpp"
#include "trace/trace_lines.hpp"
#include "trace/verifier.hpp"

namespace moetrace::trace {

// What to try about a file whose trace has no end yet. A program that knows where rings are names
// the command that finishes it.
using HowToFinish = std::function<std::string(const std::string& path, const Meta& meta)>;

// Reads and checks the parts of one trace, in their order. The error's message is
// "FILE: line N: why"; its code is kWrongTrace unless the file could not be read.
Result<TraceSummary> verify_trace(const std::vector<std::string>& parts,
                                  const HowToFinish& how_to_finish = {});
// The same for a trace of one file.
Result<TraceSummary> verify_trace(const std::string& path, const HowToFinish& how_to_finish = {});

// The files that are verified together, in the order in which each trace first appears: those that
// carry one trace id, in the order of their parts. Copies of a part stay alone.
std::vector<std::vector<std::string>> group_parts(const std::vector<std::string>& files);

}  // namespace moetrace::trace
