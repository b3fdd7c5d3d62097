// An expert load in a few numbers.
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
  // Of all selections, 0 to 1.
  double share = 0;
};

struct Metrics {
  uint64_t total_selections = 0;
  // Busiest first, ties by the smaller id. Omits experts that were never picked.
  std::vector<ExpertShare> top_3;
  // Shannon entropy of the shares, -sum p log2 p; empty without selections.
  std::optional<double> entropy_bits;
  // log2 of the number of experts: the entropy if all are equally busy.
  double max_entropy_bits = 0;
  // entropy_bits / max_entropy_bits; empty without selections or with a single expert.
  std::optional<double> normalized_entropy;

  // The sum of the top three's shares, 0 to 1.
  [[nodiscard]] double top_3_share() const;
};

Metrics measure(const std::vector<uint64_t>& counts);

// The text of expert_metrics.json: the metrics over all layers, and under "layers" those of each
// layer.
std::string metrics_json(const ExpertLoad& load);

}  // namespace moetrace::plot
