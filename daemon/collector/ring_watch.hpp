// How full the route ring of a trace gets, as its collector sees it.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "shm/ring_use.hpp"
#include "shm/segment_map.hpp"

namespace moetrace {

class RingWatch {
 public:
  // Continues from what earlier collectors of this trace have seen.
  explicit RingWatch(const SegmentMap& map);

  // Call in each pass, before it releases slots. `routes`: its published position is where the
  // filled slots begin. `claimed`: as far as is known, every slot below is claimed; at most a ring
  // after the published position. `dropped`: rows that the hook has dropped since the trace began.
  void look(const SegmentMap& map, const RingReader<MappedRing>& routes, std::uint64_t claimed,
            std::uint64_t dropped);

  const RingUse& use() const { return use_; }

  // One line, once in a trace, when the ring has been three quarters full; else "". It says how
  // full, why, and what to try. `rows_are_lines`: Arrow would be faster.
  std::string take_warning(const SegmentMap& map, const std::string& trace_id, bool rows_are_lines);

 private:
  using Clock = std::chrono::steady_clock;
  struct Moment {
    Clock::time_point time;
    // Rows that had come, and of these the ones that were written, filtered or torn.
    std::uint64_t came = 0;
    std::uint64_t written = 0;
  };

  struct Fill {
    std::uint64_t slots = 0;
    // False: at least so many, and not more than at the high-water mark.
    bool exact = true;
  };

  Fill fill_of(const SegmentMap& map, const RingReader<MappedRing>& routes,
               std::uint64_t claimed) const;
  bool is_three_quarters() const { return use_.high_water >= use_.slots - use_.slots / 4; }

  RingUse use_;
  std::uint64_t dropped_ = 0;
  bool said_;
  // When the ring filled up, and when this collector last saw it at most a quarter full before.
  std::optional<Moment> high_;
  std::optional<Moment> low_;
};

}  // namespace moetrace
