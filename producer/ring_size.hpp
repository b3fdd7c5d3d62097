// Chooses the size of a ring: the requested one, or one that the ring directory has room for.
#pragma once

#include <string>

#include "shm/errors.hpp"
#include "shm/segment_sizes.hpp"

namespace moetrace {

struct RingSize {
  SegmentSizes sizes;
  // One line if there is less room than was wanted, or a requested size was rounded; else empty.
  std::string warning;
  // The size, where it comes from, and what it holds: "64 MiB by default: holds 43,690 tokens …".
  std::string text;
};

// Room for four of the largest steps, or 64 MiB of route records if `largest_step` is 0; at least 4
// MiB. Down to 4 MiB it is less, so that the segment takes at most half of the free space of
// `directory`.
//
// `header`: the model: its top_k sizes a record, and layers_logged says how many a row has.
// `largest_step`: the most rows of a step; 0: unknown.
RingSize chosen_ring_size(const std::string& directory, const moetrace_ring_header& header,
                          std::uint64_t largest_step);

// Room for at least `mb` MiB of route records. kNoSpace if the segment does not fit into
// `directory`. `source`: the option or variable that `mb` comes from, for the lines.
Result<RingSize> wanted_ring_size(double mb, const std::string& source,
                                  const std::string& directory, const moetrace_ring_header& header,
                                  std::uint64_t largest_step);

}  // namespace moetrace
