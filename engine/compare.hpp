// The cost of tracing: the same generation without and with tracing, in turns, pass by pass.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/generate.hpp"

namespace moetrace::engine {

struct Timing {
  double wall_time_sec = 0;
  int64_t tokens_generated = 0;
};

struct Comparison {
  Timing no_log;                        // without tracing
  Timing log;                           // with tracing
  std::vector<Completion> completions;  // of the traced side

  // Of the wall times: (log - no_log) / no_log, in percent.
  double overhead_percent() const;
};

// Runs two generations of `prompts` side by side, one of them traced. Each pass runs on one side,
// then on the other; the order changes from pass to pass, so that both sides see the same drift of
// the machine. The trace holds only the traced side. kFailed if the tokens differ. Calls `progress`
// with the number of tokens that both sides together have generated.
Result<Comparison> compare(const Model& model, const std::vector<std::vector<int64_t>>& prompts,
                           const GenerateOptions& options, Tracer& tracer,
                           const std::function<void(int64_t)>& progress);

// {"no_log":{…},"log":{…},"overhead_percent":…}
std::string timing_json(const Comparison& comparison);
// Of a single run: {"log":{…}} if it was traced, else {"no_log":{…}}.
std::string timing_json(const Timing& timing, bool traced);

}  // namespace moetrace::engine
