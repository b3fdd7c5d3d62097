// The cost of tracing: the same generation without and with it, taking turns pass by pass.
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
  Timing no_log;
  Timing log;
  std::vector<Completion> completions;  // of the traced side

  // (log - no_log) / no_log, of the wall times
  double overhead_percent() const;
};

// Runs `prompts` twice at once: every pass first on one side, then on the other, and the next one
// in the other order, so that drift of the machine meets both sides alike. Only the traced side is
// in the trace. kFailed if the tokens differ. `progress` is told how many tokens both sides have
// generated.
Result<Comparison> compare(const Model& model, const std::vector<std::vector<int64_t>>& prompts,
                           const GenerateOptions& options, Tracer& tracer,
                           const std::function<void(int64_t)>& progress);

// {"no_log":{…},"log":{…},"overhead_percent":…}
std::string timing_json(const Comparison& comparison);
// Of a run that compared nothing: its side only.
std::string timing_json(const Timing& timing, bool traced);

}  // namespace moetrace::engine
