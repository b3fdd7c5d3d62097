// Reads events from a segment. A segment is not trusted: every slot is copied once, then checked.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "shm/errors.hpp"
#include "shm/segment_map.hpp"

namespace moetrace {

struct StepEvent {
  std::uint64_t step = 0;
  std::int64_t time_ns = 0;
  std::uint32_t rows = 0;
  std::uint32_t layers = 0;
  // The spans of at least one row, sorted by first_row.
  std::vector<moetrace_span> spans;
};

struct RequestEvent {
  std::uint64_t request = 0;
  std::uint32_t prompt_tokens = 0;
  std::uint32_t cached_tokens = 0;
  std::string id;
};

struct RequestEndEvent {
  std::uint64_t request = 0;
  std::uint32_t generated_tokens = 0;
  std::string status;
};

struct ControlEvent {
  std::uint64_t from_step = 0;
  bool enabled = true;
  std::uint32_t sample_every = 1;
  moetrace_layer_mask layers{};
};

// Of a later minor version.
struct UnknownEvent {};

struct Event {
  // Its first slot.
  std::uint64_t position = 0;
  std::uint64_t slots = 0;
  std::variant<StepEvent, RequestEvent, RequestEndEvent, ControlEvent, UnknownEvent> body;
};

class EventReader {
 public:
  EventReader(const SegmentMap& map, std::uint64_t position);

  // The next whole event, or nothing. kBadSegment if the slots can't be an event, or lie more than
  // one ring after the consumed position: such a producer does not wait for us, and our copies of
  // its events would grow for ever.
  Result<std::optional<Event>> next();

  std::uint64_t position() const { return position_; }
  void publish(std::uint64_t position) { ring_.publish(position); }
  std::uint64_t published() const { return ring_.published(); }

 private:
  // A copy of slot `position`, which must be valid.
  template <class T>
  T copy_slot(std::uint64_t position) const;
  bool continues(std::uint64_t position, moetrace_event_kind kind) const;
  Result<std::optional<Event>> read_step(std::uint64_t slots);
  Result<std::optional<Event>> read_request(std::uint64_t slots);
  Error bad(const std::string& why) const;

  std::uint64_t capacity_;
  RingReader<MappedRing> ring_;
  std::uint64_t position_;
};

// The live requests in the segment's table whose request event lies below `event`: each once, by
// number.
std::vector<RequestEvent> requests_in_table(const SegmentMap& map, std::uint64_t event);

}  // namespace moetrace
