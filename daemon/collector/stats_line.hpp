// The line for subscribers of `stats`: how often each expert was chosen.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "daemon/collector/lines.hpp"
#include "shm/segment_map.hpp"

namespace moetrace {

struct StatsLine {
  // Of the counts; changes each time the producer mirrors them.
  std::uint64_t version;
  std::string line;
};

// Nothing before the first mirror of the counts, and while the producer writes them.
std::optional<StatsLine> stats_line(const SegmentMap& map, const std::string& trace_id,
                                    const RunningTotals& totals);

}  // namespace moetrace
