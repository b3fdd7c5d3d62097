// How large a ring is made: as wanted, or as the ring directory's file system has room for.
#pragma once

#include <string>

#include "shm/errors.hpp"
#include "shm/segment_sizes.hpp"

namespace moetrace {

struct RingSize {
  SegmentSizes sizes;
  std::string warning;  // one line where it is not what one would expect; else empty
};

// 64 MiB of route records, or as many as let the segment take at most half of what is free in
// `directory`, but not less than 4 MiB. `header`: the model, on which a record's size depends.
RingSize default_ring_size(const std::string& directory, const moetrace_ring_header& header);

// Room for at least `mb` MiB of route records. kNoSpace if the segment does not fit. `source`: what
// gave that number.
Result<RingSize> wanted_ring_size(double mb, const std::string& source,
                                  const std::string& directory, const moetrace_ring_header& header);

}  // namespace moetrace
