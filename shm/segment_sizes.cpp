#include "shm/segment_sizes.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

#include "shm/route_layout.hpp"

namespace moetrace {
namespace {

std::uint64_t round_up(std::uint64_t bytes) {
  return (bytes + kSegmentPage - 1) / kSegmentPage * kSegmentPage;
}

}  // namespace

SegmentSizes sizes_of_slots(std::uint64_t route_slots) {
  SegmentSizes sizes;
  sizes.route_slots = route_slots;
  // A decode step of one request takes two event slots and one route slot a layer. With one event
  // slot for eight route slots, both rings fill at the same rate at 16 layers. With fewer layers
  // the event ring fills first.
  sizes.event_slots = std::max<std::uint64_t>(sizes.route_slots / 8, 4096);
  sizes.request_slots = 4096;
  return sizes;
}

SegmentSizes sizes_for(double ring_mb, std::uint32_t top_k) {
  const double slots = std::ceil(ring_mb * 1024 * 1024 / RouteLayout::of_top_k(top_k).stride());
  const double limited = std::clamp(slots, 64.0, static_cast<double>(MOETRACE_MAX_ROUTE_SLOTS));
  return sizes_of_slots(std::bit_ceil(static_cast<std::uint64_t>(limited)));
}

void lay_out_segment(moetrace_ring_header& h, const SegmentSizes& sizes) {
  h.header_bytes = sizeof h;
  h.route_stride = RouteLayout::of_top_k(h.top_k).stride();
  h.event_slots = sizes.event_slots;
  h.route_slots = sizes.route_slots;
  h.request_slots = sizes.request_slots;
  h.state_offset = kSegmentPage;
  h.request_offset = h.state_offset + kSegmentPage;
  h.event_offset = h.request_offset +
                   round_up(std::uint64_t{sizes.request_slots} * sizeof(moetrace_request_entry));
  h.route_offset = h.event_offset + round_up(sizes.event_slots * 64);
  h.counts_offset = h.route_offset + round_up(sizes.route_slots * h.route_stride);
  h.layer_table_offset =
      h.counts_offset + round_up(std::uint64_t{h.num_layers} * h.num_experts * 8);
  h.ring_bytes =
      h.layer_table_offset + round_up(std::uint64_t{h.num_layers} * sizeof(moetrace_layer_entry));
  h.ctl_bytes = sizeof(moetrace_ctl);
}

std::uint64_t segment_bytes(const moetrace_ring_header& model, const SegmentSizes& sizes) {
  moetrace_ring_header header = model;
  lay_out_segment(header, sizes);
  return header.ring_bytes + header.ctl_bytes;
}

}  // namespace moetrace
