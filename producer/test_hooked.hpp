// What the tests of the host hook share.
#pragma once

#include <vector>

#include "producer/test_segment.hpp"

namespace moetrace {

// A host hook for three layers of eight experts with top-2.
struct Hooked : Bench {
  explicit Hooked(const SegmentSizes& sizes = kSmallSizes) : Bench(small_header(2), sizes) {}

  StepBlock announce(std::uint32_t rows) {
    const StepBlock block = announcer.announce(rows, {});
    hook.arm(block);
    return block;
  }
  // Records rows with the ids (row, row + 1) mod 8 and the weights (layer, row).
  void record(std::uint32_t layer, std::uint32_t rows) {
    std::vector<std::int64_t> ids;
    std::vector<float> weights;
    for (std::uint32_t row = 0; row < rows; ++row) {
      ids.insert(ids.end(), {row % 8, (row + 1) % 8});
      weights.insert(weights.end(), {static_cast<float>(layer), static_cast<float>(row)});
    }
    hook.record(layer, ids.data(), MOETRACE_INT64, weights.data(), MOETRACE_FLOAT32, rows);
  }
  std::vector<std::uint64_t> counts() const {
    const std::uint64_t* table = map().counts();
    return {table, table + 24};
  }
  // Of all layers and experts.
  std::uint64_t counted() const {
    std::uint64_t sum = 0;
    for (const std::uint64_t count : counts()) sum += count;
    return sum;
  }
};

}  // namespace moetrace
