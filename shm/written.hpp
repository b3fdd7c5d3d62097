// What a collector says of the files that it writes, in .ctl: for `moetrace status`.
#pragma once

#include <cstdint>
#include <optional>

#include "shm/segment_map.hpp"

namespace moetrace {

struct Written {
  // Of the trace's files, those included that are gone.
  std::uint64_t bytes = 0;
  // At the present rate.
  std::uint64_t bytes_an_hour = 0;
  // How many more bytes until recording is switched off; nothing: no limit.
  std::optional<std::uint64_t> room;
  // Of all traces of this collector, which share that room.
  std::uint64_t total_bytes_an_hour = 0;
  // How many threads may make the text of rows as lines; 0: rows are not lines.
  std::uint64_t encoder_threads = 0;
};

// From the collector alone.
void store_written(const SegmentMap& map, const Written& written);

// Nothing if no collector has said it yet. The numbers may be of two moments a second apart.
std::optional<Written> read_written(const SegmentMap& map);

}  // namespace moetrace
