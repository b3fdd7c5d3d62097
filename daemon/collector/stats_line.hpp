// The line that `stats` subscribers get: how often each expert was chosen.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "daemon/collector/lines.hpp"
#include "shm/segment_map.hpp"

namespace moetrace {

struct StatsLine {
  std::uint64_t version;  // of the counts; a new one each time the producer mirrors them
  std::string line;
};

// Nothing if the counts were never mirrored, or are being written just now.
std::optional<StatsLine> stats_line(const SegmentMap& map, const std::string& trace_id,
                                    const Totals& totals);

}  // namespace moetrace
