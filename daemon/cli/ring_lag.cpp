#include "daemon/cli/ring_lag.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "common/text.hpp"
#include "daemon/cli/segments.hpp"

namespace moetrace::cli {
namespace {

// Nanoseconds since the segment's clock pair at which a step was announced. The collector frees a
// step's event after its rows, so it is still in the ring while one of them waits.
std::optional<std::int64_t> announced_at(const SegmentMap& map, std::uint32_t step_low) {
  // relaxed: what is read is checked by its commit words.
  const std::uint64_t begin =
      SharedWord(&map.ctl()->event_consumed).load(std::memory_order_relaxed);
  const RingReader<MappedRing> events(map.event_ring(), map.header().event_slots, begin);
  for (std::uint64_t slot = begin; slot - begin < map.header().event_slots;) {
    const auto head = events.upper_at(slot);
    if (!head) return std::nullopt;
    if ((*head & 0xFF) == MOETRACE_EVENT_STEP) {
      moetrace_step_event step;
      std::memcpy(&step, events.memory().slot(slot), sizeof step);
      // Read again: the producer may have begun its next lap meanwhile.
      if (events.upper_at(slot) != head) return std::nullopt;
      if (static_cast<std::uint32_t>(step.step) == step_low) return step.time_ns;
    }
    // A continuation after a hole has 0 slots.
    slot += std::max<std::uint64_t>(1, *head >> 16);
  }
  return std::nullopt;
}

std::optional<double> oldest_age(const SegmentMap& map, std::uint64_t consumed) {
  const RingReader<MappedRing> routes(map.route_ring(), map.header().route_slots, consumed);
  const auto step_low = routes.upper_at(consumed);
  if (!step_low) return std::nullopt;
  const auto time = announced_at(map, *step_low);
  if (!time) return std::nullopt;
  // CLOCK_MONOTONIC, as the producer's. As doubles, because a hostile time may be any number.
  const std::chrono::duration<double, std::nano> now =
      std::chrono::steady_clock::now().time_since_epoch();
  const double age = now.count() - static_cast<double>(map.header().created_monotonic_ns) -
                     static_cast<double>(*time);
  return std::max(age, 0.0) / 1e9;
}

}  // namespace

RingLag read_ring_lag(const CollectorSegment& segment) {
  RingLag lag;
  if (!segment.intact()) return lag;
  const SegmentMap& map = segment.map();
  lag.slots = map.header().route_slots;
  lag.high_water = read_high_water(map);
  lag.rows = waiting_rows(segment);
  lag.bytes = lag.rows * map.header().route_stride;
  // relaxed: the commit word of the slot decides.
  if (lag.rows > 0)
    lag.seconds =
        oldest_age(map, SharedWord(&map.ctl()->route_consumed).load(std::memory_order_relaxed));
  return lag;
}

std::string describe(const RingLag& lag) {
  std::string text = lag.rows == 0 ? "none" : counted(lag.rows, "row") + " to write";
  if (lag.seconds) text += ", the oldest for " + decimals(*lag.seconds, 1) + " s";
  if (!lag.high_water) return text + "; high water unknown";
  return text + "; high water " + counted(*lag.high_water, "row") + " (" +
         percent(static_cast<double>(*lag.high_water) / static_cast<double>(lag.slots)) + ")";
}

}  // namespace moetrace::cli
