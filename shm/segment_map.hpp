// The two mapped files of a segment, with the addresses of their parts.
#pragma once

#include <boost/interprocess/mapped_region.hpp>
#include <cstddef>
#include <cstdint>

#include "shm/abi.h"
#include "shm/layer_table.hpp"
#include "shm/ring.hpp"
#include "shm/route_layout.hpp"

namespace moetrace {

// Both sides use it. The collector maps .ring read-only.
class SegmentMap {
 public:
  const moetrace_ring_header& header() const { return header_; }
  moetrace_state* state() const { return at<moetrace_state>(header_.state_offset); }
  moetrace_request_entry* requests() const {
    return at<moetrace_request_entry>(header_.request_offset);
  }
  std::byte* events() const { return at<std::byte>(header_.event_offset); }
  std::byte* routes() const { return at<std::byte>(header_.route_offset); }
  std::uint64_t* counts() const { return at<std::uint64_t>(header_.counts_offset); }
  // A private copy, checked once, like the header.
  const LayerTable& layers() const { return layers_; }
  moetrace_ctl* ctl() const { return static_cast<moetrace_ctl*>(ctl_.get_address()); }
  void* ring_address() const { return ring_.get_address(); }
  std::size_t ring_bytes() const { return ring_.get_size(); }

  RouteLayout route_layout() const { return RouteLayout::of_top_k(header_.top_k); }
  MappedRing event_ring() const {
    return {events(), 64, header_.event_slots, &ctl()->event_consumed};
  }
  MappedRing route_ring() const {
    return {routes(), header_.route_stride, header_.route_slots, &ctl()->route_consumed};
  }

 private:
  friend class ProducerSegment;
  friend class CollectorSegment;
  template <class T>
  T* at(std::uint64_t offset) const {
    return reinterpret_cast<T*>(static_cast<std::byte*>(ring_.get_address()) + offset);
  }

  boost::interprocess::mapped_region ring_;
  boost::interprocess::mapped_region ctl_;
  // A private copy, checked once. A hostile producer may change the shared one at any time.
  moetrace_ring_header header_{};
  LayerTable layers_{0, 0, 0};
};

// The end of the valid route slots from `position` on, at most `limit` of them. Where a GPU claims
// the slots, only slots below its published position are valid; their commit words are checked all
// the same.
std::uint64_t valid_routes_end(const SegmentMap& map, const RingReader<MappedRing>& routes,
                               std::uint64_t position, std::uint64_t limit);

}  // namespace moetrace
