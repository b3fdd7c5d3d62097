// How often each expert was picked: what all pictures and metrics are made of.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "trace/errors.hpp"
#include "trace/trace_lines.hpp"

namespace moetrace::plot {

using trace::Error;
using trace::ErrorCode;
using trace::Result;

// One layer, or several added together.
struct LayerLoad {
  std::vector<uint64_t> counts;  // a selection each, by expert id; num_experts of them
  uint64_t rows = 0;             // route lines
};

// One trace, or several (the ranks of one run) added together.
struct ExpertLoad {
  std::string model_id;  // "unknown model" if the trace does not say
  uint32_t num_experts = 0;
  uint32_t top_k = 0;
  uint32_t files = 0;
  // By model layer: every layer that meta names or that has routes.
  std::map<uint16_t, LayerLoad> layers;
  // Distinct rows: a token that is recorded in 24 layers counts once. Files that record different
  // layers of the same tokens (pipeline ranks) don't add up; files that record the same layer do.
  uint64_t tokens = 0;
  // From the trace's own lines; nothing where a file is a plain log, which does not say it.
  std::optional<uint64_t> dropped = 0;  // records that had no room
  std::optional<uint64_t> torn = 0;     // announced, but never seen
  // What a reader must know of the files: a line each, "what: why; what to try".
  std::vector<std::string> notes;

  // All layers added together.
  [[nodiscard]] LayerLoad total() const;
};

// Reads every file once, in memory that depends on layers x experts only; a file that is given
// twice, under whatever name, counts once. Errors: the reader's; kNoExperts if neither a meta line
// nor num_experts says how many experts there are; kMismatch for files of different models, or if a
// copy of a trace is given with it.
Result<ExpertLoad> read_expert_load(const std::vector<std::string>& paths,
                                    std::optional<uint32_t> num_experts);

}  // namespace moetrace::plot
