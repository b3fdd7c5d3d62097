#include "shm/ring_use.hpp"

namespace moetrace {

std::optional<std::uint64_t> read_high_water(const SegmentMap& map) {
  // relaxed: a number of its own; it orders nothing.
  const std::uint64_t slots =
      SharedWord(&map.ctl()->ring_use.high_water).load(std::memory_order_relaxed);
  if (slots == 0 || slots > map.header().route_slots) return std::nullopt;
  return slots;
}

void write_high_water(const SegmentMap& map, std::uint64_t slots) {
  // relaxed: see read_high_water().
  SharedWord(&map.ctl()->ring_use.high_water).store(slots, std::memory_order_relaxed);
}

}  // namespace moetrace
