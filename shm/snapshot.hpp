// The snapshot: how far the route ring is at the end of a step.
#pragma once

#include <optional>

#include "shm/segment_map.hpp"

namespace moetrace {

// Call from the hook's thread alone. `number` counts 1, 2, 3, ...: one more than the last.
void write_snapshot(const SegmentMap& map, const moetrace_snapshot& snapshot);

// The newest whole snapshot. Nothing before the first, or if the writer overtook every try.
std::optional<moetrace_snapshot> read_snapshot(const SegmentMap& map);

}  // namespace moetrace
