#include "shm/cost.hpp"

namespace moetrace {

std::optional<Cost> read_cost(const SegmentMap& map) {
  if (map.header().abi_minor < 2) return std::nullopt;
  moetrace_host_counters* host = &map.state()->host;
  // relaxed: each word is a running total of its own. A reader that loaded `closed` with acquire
  // sees the final totals.
  return Cost{SharedWord(&host->announce_ns).load(std::memory_order_relaxed),
              SharedWord(&host->hook_ns).load(std::memory_order_relaxed)};
}

void write_cost(const SegmentMap& map, const Cost& cost) {
  moetrace_host_counters* host = &map.state()->host;
  // relaxed: see read_cost(). At close, the release store of `closed` comes after these stores.
  SharedWord(&host->announce_ns).store(cost.announce_ns, std::memory_order_relaxed);
  SharedWord(&host->hook_ns).store(cost.hook_ns, std::memory_order_relaxed);
}

}  // namespace moetrace
