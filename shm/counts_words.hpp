// The counts table: how often each expert of each layer was picked, as of a step.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "shm/segment_map.hpp"

namespace moetrace {

struct Counts {
  // The version word: 0 before the first write, then even and growing.
  std::uint64_t version = 0;
  // The table is exact as of all steps below this number.
  std::uint64_t steps_done = 0;
  // [layer][expert], num_layers x num_experts.
  std::vector<std::uint64_t> table;

  // The counts of one layer, by expert.
  std::span<const std::uint64_t> layer(const moetrace_ring_header& header,
                                       std::uint32_t number) const {
    return std::span(table).subspan(std::size_t{number} * header.num_experts, header.num_experts);
  }
};

// Call from the producer alone. `table` has num_layers x num_experts words.
void write_counts(const SegmentMap& map, std::uint64_t steps_done,
                  std::span<const std::uint64_t> table);

// A whole copy of the table. Nothing if the writer overtook every one of `tries` reads, or died
// while it wrote.
std::optional<Counts> read_counts(const SegmentMap& map, int tries = 4);

}  // namespace moetrace
