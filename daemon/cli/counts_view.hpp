// What the counts of a segment say about the load of its experts.
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
  std::uint64_t selections = 0;  // top_k a row
  double imbalance = 0;  // busiest expert over the mean of all; 1: even; 0: no selection yet
  std::array<std::uint32_t, 3> busiest{};  // experts, ties to the smaller id
  std::vector<std::uint64_t> counts;       // [num_experts]
};

struct CountsView {
  std::uint64_t steps_done = 0;   // the counts are exact as of all steps below
  std::vector<LayerCounts> layers;  // the MoE layers, ascending
};

LayerCounts view_layer(std::uint32_t layer, std::vector<std::uint64_t> counts);

// Nothing if the producer is writing the table again and again, or died at it.
std::optional<CountsView> read_counts(const CollectorSegment& segment);

// One character a cell, the fullest is as high as a character gets: "▁▃█". More counts than `width`
// share cells.
std::string counts_bar(const std::vector<std::uint64_t>& counts, std::size_t width);

}  // namespace moetrace::cli
