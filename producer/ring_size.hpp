// Chooses the size of a ring: the requested one, or one that the ring directory has room for.
#pragma once

#include <string>

#include "shm/errors.hpp"
#include "shm/segment_sizes.hpp"

namespace moetrace {

struct RingSize {
  SegmentSizes sizes;
  // One line if the size is not the requested or usual one; else empty.
  std::string warning;
};

// 64 MiB of route records, or less, down to 4 MiB, so that the segment takes at most half of the
// free space of `directory`. `header`: the model; the size of a record depends on its top_k.
RingSize default_ring_size(const std::string& directory, const moetrace_ring_header& header);

// Room for at least `mb` MiB of route records. kNoSpace if the segment does not fit into
// `directory`. `source`: the option or variable that `mb` comes from, for the error line.
Result<RingSize> wanted_ring_size(double mb, const std::string& source,
                                  const std::string& directory, const moetrace_ring_header& header);

}  // namespace moetrace
