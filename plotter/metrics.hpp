// What one can say about an expert load in a few numbers.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "plotter/expert_load.hpp"

namespace moetrace::plot {

struct ExpertShare {
  uint32_t expert = 0;
  uint64_t count = 0;
  double share = 0;  // of all selections, 0 to 1
};

struct Metrics {
  uint64_t total_selections = 0;
  std::vector<ExpertShare>
      top_3;  // busiest first, ties to the smaller id; without experts that were never picked
  // Shannon entropy of the shares, -sum p log2 p; empty without selections.
  std::optional<double> entropy_bits;
  double max_entropy_bits = 0;  // log2 of the number of experts: all equally busy
  // entropy_bits / max_entropy_bits; empty without selections, and for a single expert.
  std::optional<double> normalized_entropy;

  // What the top three take together, 0 to 1.
  [[nodiscard]] double top_3_share() const;
};

Metrics measure(const std::vector<uint64_t>& counts);

// expert_metrics.json: the numbers over all layers, and under "layers" the same for each layer.
std::string metrics_json(const ExpertLoad& load);

}  // namespace moetrace::plot
