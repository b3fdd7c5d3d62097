// Reads events out of a segment, which is not trusted: every slot is copied once and then checked.
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
  std::vector<moetrace_span> spans;  // those of at least one row, sorted by first_row
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

struct UnknownEvent {};  // of a later minor version

struct Event {
  std::uint64_t position = 0;  // its first slot
  std::uint64_t slots = 0;
  std::variant<StepEvent, RequestEvent, RequestEndEvent, ControlEvent, UnknownEvent> body;
};

class EventReader {
 public:
  EventReader(const SegmentMap& map, std::uint64_t position);

  // The next whole event, if it is there. kBadSegment if what is there can't be an event, or lies
  // more than a ring after the consumed position: its producer does not wait for us, and what we
  // hold of its events would grow for ever.
  Result<std::optional<Event>> next();

  std::uint64_t position() const { return position_; }
  void publish(std::uint64_t position) { ring_.publish(position); }
  std::uint64_t published() const { return ring_.published(); }

 private:
  // A copy of slot `position`, which has been seen to be valid.
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

// The live requests that the segment's table names and whose request event lies below `event`, in
// the order of their numbers, each once.
std::vector<RequestEvent> requests_in_table(const SegmentMap& map, std::uint64_t event);

}  // namespace moetrace
