// A segment with the parts of a producer on it, and a simple, slow reader of what they write.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "producer/ring_producer.hpp"
#include "shm/route_layout.hpp"
#include "shm/snapshot.hpp"
#include "shm/test_directory.hpp"

namespace moetrace {

struct RouteRow {
  std::uint64_t seq;
  std::uint32_t step;
  std::uint32_t row;
  std::uint32_t layer;
  std::uint32_t flags;
  // All entries of the record, those past top_k included.
  std::vector<std::uint16_t> expert;
  std::vector<float> weight;
};

// Compares weights bit by bit, so that a NaN equals itself.
inline bool operator==(const RouteRow& a, const RouteRow& b) {
  return a.seq == b.seq && a.step == b.step && a.row == b.row && a.layer == b.layer &&
         a.flags == b.flags && a.expert == b.expert && a.weight.size() == b.weight.size() &&
         std::memcmp(a.weight.data(), b.weight.data(), a.weight.size() * sizeof(float)) == 0;
}

struct EventSlot {
  std::uint64_t position;
  std::uint8_t kind;
  std::uint16_t slots;
  std::byte bytes[64];

  template <class Event>
  Event as() const {
    static_assert(sizeof(Event) == sizeof bytes);
    Event event;
    std::memcpy(&event, bytes, sizeof bytes);
    return event;
  }
};

// A reader of one segment, through the producer's own mapping.
class SegmentReader {
 public:
  explicit SegmentReader(const SegmentMap& map)
      : map_(map),
        routes_(map.route_ring(), map.header().route_slots),
        events_(map.event_ring(), map.header().event_slots) {}

  // All routes since the last call. `publish`: give their slots back.
  std::vector<RouteRow> routes(bool publish = true) {
    std::vector<RouteRow> rows;
    const RouteLayout layout = map_.route_layout();
    const std::uint64_t end =
        valid_routes_end(map_, routes_, next_route_, map_.header().route_slots);
    for (; next_route_ != end; ++next_route_) {
      const std::byte* slot = routes_.memory().slot(next_route_);
      moetrace_route_head head;
      std::memcpy(&head, slot, sizeof head);
      RouteRow row{next_route_, head.step, head.row, head.layer, head.flags, {}, {}};
      row.expert.resize(layout.entries());
      row.weight.resize(layout.entries());
      std::memcpy(row.expert.data(), slot + layout.ids_offset(), layout.ids_bytes());
      std::memcpy(row.weight.data(), slot + layout.weights_offset(), layout.weights_bytes());
      rows.push_back(row);
    }
    if (publish) routes_.publish(next_route_);
    return rows;
  }

  std::vector<EventSlot> events(bool publish = true) {
    std::vector<EventSlot> slots;
    const std::uint64_t end = events_.valid_end(next_event_, map_.header().event_slots);
    for (; next_event_ != end; ++next_event_) {
      EventSlot slot{next_event_, 0, 0, {}};
      std::memcpy(slot.bytes, events_.memory().slot(next_event_), 64);
      moetrace_event_commit commit;
      std::memcpy(&commit, slot.bytes, sizeof commit);
      slot.kind = commit.kind;
      slot.slots = commit.slots;
      slots.push_back(slot);
    }
    if (publish) events_.publish(next_event_);
    return slots;
  }

  // All events of one kind since the last call.
  template <class Event>
  std::vector<Event> events_of(moetrace_event_kind kind) {
    std::vector<Event> found;
    for (const EventSlot& slot : events()) {
      if (slot.kind == kind) found.push_back(slot.as<Event>());
    }
    return found;
  }

 private:
  const SegmentMap& map_;
  RingReader<MappedRing> routes_;
  RingReader<MappedRing> events_;
  std::uint64_t next_route_ = 0;
  std::uint64_t next_event_ = 0;
};

// A segment and the parts of a producer, for tests of each part.
struct Bench {
  explicit Bench(const moetrace_ring_header& header = small_header(),
                 const SegmentSizes& sizes = kSmallSizes,
                 const std::vector<moetrace_layer_entry>& layers = {})
      : segment(std::move(
            *ProducerSegment::create(directory.path(), "default", header, sizes, layers))) {}

  const SegmentMap& map() const { return segment.map(); }
  const moetrace_host_counters& host() const { return map().state()->host; }
  // Zeros before the first.
  moetrace_snapshot snapshot() const { return read_snapshot(map()).value_or(moetrace_snapshot{}); }

  TestDirectory directory;
  ProducerSegment segment;
  EventWriter events{map().event_ring(), map().header().event_slots};
  RequestTable requests{map(), events};
  Announcer announcer{map(), events, requests};
  HostHook hook{map()};
  SegmentReader reader{map()};
};

}  // namespace moetrace
