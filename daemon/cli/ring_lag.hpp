// What waits in a ring for its collector, and the most that has waited.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "shm/collector_segment.hpp"
#include "shm/ring_use.hpp"

namespace moetrace::cli {

struct RingLag {
  // Rows that are in the ring and not yet in the file, with those of an unfinished step.
  std::uint64_t rows = 0;
  std::uint64_t bytes = 0;
  // Since the step of the oldest of them was announced. Nothing: none waits, or its step can't be
  // found.
  std::optional<double> seconds;
  std::uint64_t slots = 0;
  // See read_high_water().
  std::optional<std::uint64_t> high_water;
};

RingLag read_ring_lag(const CollectorSegment& segment);

// 1,234 rows to write, the oldest for 0.4 s; high water 98,304 rows (9.4 %)
std::string describe(const RingLag& lag);

}  // namespace moetrace::cli
