// A segment's counts: how often each expert was chosen.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "shm/collector_segment.hpp"

namespace moetrace::cli {

struct LayerCounts {
  std::uint32_t layer = 0;
  // The layer's top-k for each row.
  std::uint64_t selections = 0;
  // The busiest expert's count over the mean count. 1: even; 0: no selection yet.
  double imbalance = 0;
  // The busiest experts; of equal counts the smaller id first.
  std::array<std::uint32_t, 3> busiest{};
  // One for each id of the layer.
  std::vector<std::uint64_t> counts;
};

struct CountsView {
  // The counts hold every step below this one, and no other.
  std::uint64_t steps_done = 0;
  // The MoE layers, ascending.
  std::vector<LayerCounts> layers;
};

LayerCounts view_layer(std::uint32_t layer, std::vector<std::uint64_t> counts);

// Nothing if the producer rewrites the counts all the time, or died while it wrote them.
std::optional<CountsView> read_counts(const CollectorSegment& segment);

// One character a cell, the fullest with the highest one: "▁▃█". If there are more counts than
// `width`, several share a cell.
std::string counts_bar(const std::vector<std::uint64_t>& counts, std::size_t width);

}  // namespace moetrace::cli
