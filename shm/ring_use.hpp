// How full the route ring has been.
#pragma once

#include <cstdint>
#include <optional>

#include "shm/segment_map.hpp"

namespace moetrace {

struct RingUse {
  // Of the route ring.
  std::uint64_t slots = 0;
  // The most of them that were claimed and not consumed when a collector looked; at most `slots`.
  std::uint64_t high_water = 0;
};

// What the collectors of this trace have seen. Nothing: no collector since ABI 1.4 has seen a row,
// or the word holds what none writes.
std::optional<std::uint64_t> read_high_water(const SegmentMap& map);

// Call from the collector alone, with a value that never decreases.
void write_high_water(const SegmentMap& map, std::uint64_t slots);

}  // namespace moetrace
