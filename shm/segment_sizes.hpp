// How large a segment is, and where its parts lie.
#pragma once

#include <cstdint>

#include "shm/abi.h"

namespace moetrace {

// Every part of a segment starts on a page of its own.
inline constexpr std::uint64_t kSegmentPage = 4096;

// Sizes that a producer chooses.
struct SegmentSizes {
  // Powers of two.
  std::uint64_t route_slots = 0;
  std::uint64_t event_slots = 0;
  std::uint32_t request_slots = 0;
};

// A ring of `route_slots` slots, a power of two, with an event ring and a request table to match.
SegmentSizes sizes_of_slots(std::uint64_t route_slots);

// The smallest of these that holds `ring_mb` MiB of records of this top-k: at least 64 slots, at
// most MOETRACE_MAX_ROUTE_SLOTS.
SegmentSizes sizes_for(double ring_mb, std::uint32_t top_k);

// Fills in the sizes and offsets of a header that describes its model: header, state, requests,
// events, routes, counts, layer table, in the order of ABI.md.
void lay_out_segment(moetrace_ring_header& header, const SegmentSizes& sizes);

// The bytes of both files for this model.
std::uint64_t segment_bytes(const moetrace_ring_header& model, const SegmentSizes& sizes);

}  // namespace moetrace
