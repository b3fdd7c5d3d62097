// Writes events: groups of 64-byte slots that a reader sees whole or not at all.
#pragma once

#include <cstdint>
#include <cstring>

#include "shm/abi.h"
#include "shm/ring.hpp"

namespace moetrace {

class EventWriter {
 public:
  EventWriter(const MappedRing& ring, std::uint64_t capacity) : ring_(ring, capacity) {}

  // Whether a group of this many slots fits now.
  bool fits(std::uint64_t slots) {
    return slots <= MOETRACE_MAX_GROUP_SLOTS && ring_.room(slots) >= slots;
  }
  // Takes slots that fits() has granted; returns the first one's number.
  std::uint64_t claim(std::uint64_t slots) { return ring_.claim(slots); }

  // Writes a slot's payload, everything behind the commit word.
  template <class Event>
  void write(std::uint64_t position, const Event& event) {
    static_assert(sizeof(Event) == 64, "an event slot has 64 bytes");
    std::memcpy(ring_.memory().slot(position) + 8, reinterpret_cast<const std::byte*>(&event) + 8,
                56);
  }

  // Makes a written group visible. The head comes last: a reader that goes in order and sees it
  // sees all of them.
  void commit(std::uint64_t first, std::uint16_t slots, moetrace_event_kind head,
              moetrace_event_kind rest) {
    for (std::uint64_t n = slots; n-- > 1;) ring_.commit(first + n, upper(rest, 0));
    ring_.commit(first, upper(head, slots));
  }

  std::uint64_t position() const { return ring_.position(); }

 private:
  // moetrace_event_commit without seq: kind, flags = 0, slots.
  static std::uint32_t upper(moetrace_event_kind kind, std::uint16_t slots) {
    return static_cast<std::uint32_t>(kind) | std::uint32_t{slots} << 16;
  }

  RingWriter<MappedRing> ring_;
};

}  // namespace moetrace
