#include "shm/segment_map.hpp"

#include <algorithm>

namespace moetrace {

std::uint64_t valid_routes_end(const SegmentMap& map, const RingReader<MappedRing>& routes,
                               std::uint64_t position, std::uint64_t limit) {
  if (map.header().claimer == MOETRACE_CLAIMER_GPU) {
    // acquire: synchronizes with the GPU's system-scope fence before its store of the position, so
    // every record below it is whole. A hostile producer may store any value.
    const std::uint64_t published =
        SharedWord(&map.state()->published.routes).load(std::memory_order_acquire);
    limit = published > position ? std::min(limit, published - position) : 0;
  }
  return routes.valid_end(position, limit);
}

}  // namespace moetrace
