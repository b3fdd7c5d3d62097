// How often each expert was picked. All pictures and metrics come from it.
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
  // Selections by expert id. Of one layer: as many entries as it has ids. Of several: num_experts.
  std::vector<uint64_t> counts;
  // Route lines.
  uint64_t rows = 0;
  // Of one layer; 0: that of the load.
  uint32_t top_k = 0;
};

// One trace, or several (the ranks of one run) added together.
struct ExpertLoad {
  // "unknown model" if the trace does not name it.
  std::string model_id;
  // The largest of all layers.
  uint32_t num_experts = 0;
  uint32_t top_k = 0;
  uint32_t files = 0;
  // By model layer: every layer that a meta line names or that has routes.
  std::map<uint16_t, LayerLoad> layers;
  // Distinct rows: a token that is recorded in 24 layers counts once. Files that record the same
  // layer add up; files that record different layers of the same tokens (pipeline ranks) don't.
  uint64_t tokens = 0;
  // From the trace's own lines. Nothing if any file is a plain log, which does not state them.
  // Dropped records had no room; torn records were announced but never seen.
  std::optional<uint64_t> dropped = 0;
  std::optional<uint64_t> torn = 0;
  // What a reader must know about the files: one line each, "what: why; what to try".
  std::vector<std::string> notes;

  // All layers added together, by expert id.
  [[nodiscard]] LayerLoad total() const;
  // Whether some layers have fewer ids than others. Their ids are then not comparable.
  [[nodiscard]] bool layers_differ() const;
};

// Reads every file once, in memory of the order of layers x experts. A file that is given twice,
// under any name, counts once. Errors: the reader's; kNoExperts if neither a meta line nor
// `num_experts` gives the number of experts; kMismatch for files of different models, or for a copy
// of a trace.
Result<ExpertLoad> read_expert_load(const std::vector<std::string>& paths,
                                    std::optional<uint32_t> num_experts);

}  // namespace moetrace::plot
