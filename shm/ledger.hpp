// The ledger: where the collector is in both rings, and the totals of the trace so far.
#pragma once

#include <optional>

#include "shm/segment_map.hpp"

namespace moetrace {

// Call from the collector alone, after the lines are in the file and before a consumed position
// moves. `number` counts 1, 2, 3, ...: one more than the last.
void write_ledger(const SegmentMap& map, const moetrace_ledger& ledger);

// The newest whole ledger. Nothing before the first, or if the writer overtook every try.
std::optional<moetrace_ledger> read_ledger(const SegmentMap& map);

}  // namespace moetrace
