// What tracing costs the producer.
#pragma once

#include <cstdint>
#include <optional>

#include "shm/segment_map.hpp"

namespace moetrace {

// Nanoseconds of the engine's threads.
struct Cost {
  // In announcements.
  std::uint64_t announce_ns = 0;
  // In calls of the hook.
  std::uint64_t hook_ns = 0;
};

// The cost so far. Nothing for a producer older than ABI 1.2, which does not measure it.
std::optional<Cost> read_cost(const SegmentMap& map);

// Call from the producer alone.
void write_cost(const SegmentMap& map, const Cost& cost);

}  // namespace moetrace
