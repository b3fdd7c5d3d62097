#include "producer/request_table.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>

namespace moetrace {
namespace {

// At most `limit` bytes of `text`, cut between UTF-8 sequences.
std::string_view cut(std::string_view text, std::size_t limit) {
  if (text.size() <= limit) return text;
  while (limit > 0 && (static_cast<unsigned char>(text[limit]) & 0xC0) == 0x80) --limit;
  return text.substr(0, limit);
}

constexpr std::size_t kHeadText = sizeof(moetrace_request_event::id);
constexpr std::size_t kSlotText = sizeof(moetrace_text_event::text);

std::uint16_t request_slots(std::size_t id_bytes) {
  const std::size_t rest = id_bytes > kHeadText ? id_bytes - kHeadText : 0;
  return static_cast<std::uint16_t>(1 + (rest + kSlotText - 1) / kSlotText);
}

}  // namespace

RequestTable::RequestTable(const SegmentMap& map, EventWriter& events)
    : map_(map), events_(events) {
  free_entries_.resize(map.header().request_slots);
  for (std::uint32_t n = 0; n < free_entries_.size(); ++n) {
    free_entries_[n] = static_cast<std::uint32_t>(free_entries_.size()) - 1 - n;
  }
}

std::uint64_t RequestTable::begin(std::string_view id, std::uint32_t prompt_tokens,
                                  std::uint32_t cached_tokens) {
  const std::uint64_t request = next_++;
  const auto [at, is_new] = live_.emplace(
      request, Live{std::string(cut(id, MOETRACE_MAX_REQUEST_ID)), prompt_tokens, cached_tokens});
  if (!flush() || !write_begin(request, at->second))
    pending_.push_back({request, false, 0, {}, kNoEntry});
  return request;
}

void RequestTable::end(std::uint64_t request, std::uint32_t generated_tokens,
                       std::string_view status) {
  const auto found = live_.find(request);
  if (found == live_.end()) return;
  if (!found->second.announced) {
    // Forget its event: otherwise the queue would grow with every short request while no collector
    // drains the ring.
    std::erase_if(pending_, [&](const Pending& waiting) { return waiting.request == request; });
  } else {
    const std::size_t limit = sizeof(moetrace_request_end_event::status) - 1;
    Pending end{request, true, generated_tokens, std::string(cut(status, limit)),
                found->second.entry};
    if (!flush() || !write_end(end)) pending_.push_back(std::move(end));
  }
  live_.erase(found);
}

bool RequestTable::flush() {
  while (!pending_.empty()) {
    const Pending& next = pending_.front();
    if (next.is_end) {
      if (!write_end(next)) return false;
    } else if (!write_begin(next.request, live_.at(next.request))) {
      return false;
    }
    pending_.pop_front();
  }
  return true;
}

bool RequestTable::write_begin(std::uint64_t request, Live& live) {
  const std::uint16_t slots = request_slots(live.id.size());
  if (!events_.fits(slots)) return false;
  const std::uint64_t first = events_.claim(slots);
  moetrace_request_event head{};
  head.request = request;
  head.prompt_tokens = live.prompt_tokens;
  head.cached_tokens = live.cached_tokens;
  head.id_bytes = static_cast<std::uint32_t>(live.id.size());
  const std::size_t in_head = std::min(live.id.size(), kHeadText);
  std::memcpy(head.id, live.id.data(), in_head);
  events_.write(first, head);
  for (std::size_t n = 1, at = in_head; n < slots; ++n, at += kSlotText) {
    moetrace_text_event text{};
    std::memcpy(text.text, live.id.data() + at, std::min(kSlotText, live.id.size() - at));
    events_.write(first + n, text);
  }

  // Fill the table's entry before the event becomes visible, so that a collector that has consumed
  // the event finds the entry.
  live.entry = take_entry();
  if (live.entry != kNoEntry) {
    moetrace_request_entry entry{};
    entry.begin_event = first;
    entry.end_event = UINT64_MAX;
    entry.prompt_tokens = live.prompt_tokens;
    entry.cached_tokens = live.cached_tokens;
    entry.id_bytes = head.id_bytes;
    std::memcpy(entry.id, live.id.data(), live.id.size());
    std::array<std::uint64_t, sizeof entry / 8> words;
    std::memcpy(words.data(), &entry, sizeof entry);
    // Skip the words past the id: no reader uses them, and storing would touch cold cache lines.
    const std::size_t used = (offsetof(moetrace_request_entry, id) + live.id.size() + 7) / 8;
    entry_word(live.entry, 0).store(0, std::memory_order_relaxed);
    for (std::size_t w = 1; w < used; ++w) {
      // release: pairs with the collector's acquire load of the word. A reader that sees this word
      // also sees the 0 above when it loads the number again.
      entry_word(live.entry, w).store(words[w], std::memory_order_release);
    }
    // release: pairs with the collector's acquire load of the number; the entry is complete now.
    entry_word(live.entry, 0).store(request + 1, std::memory_order_release);
  }
  events_.commit(first, slots, MOETRACE_EVENT_REQUEST, MOETRACE_EVENT_TEXT);
  live.announced = true;
  return true;
}

bool RequestTable::write_end(const Pending& end) {
  if (!events_.fits(1)) return false;
  const std::uint64_t position = events_.claim(1);
  moetrace_request_end_event event{};
  event.request = end.request;
  event.generated_tokens = end.generated_tokens;
  std::memcpy(event.status, end.status.data(), end.status.size());
  events_.write(position, event);
  if (end.entry != kNoEntry) {
    constexpr std::size_t kEndWord = offsetof(moetrace_request_entry, end_event) / 8;
    // relaxed: an independent word, which the collector only compares.
    entry_word(end.entry, kEndWord).store(position, std::memory_order_relaxed);
    ended_.push_back({end.entry, position});
  }
  events_.commit(position, 1, MOETRACE_EVENT_REQUEST_END, MOETRACE_EVENT_REQUEST_END);
  return true;
}

std::uint32_t RequestTable::take_entry() {
  if (free_entries_.empty()) {
    // relaxed: the value only decides whether an old id may be forgotten. A hostile collector that
    // lies here harms only itself.
    const std::uint64_t consumed =
        SharedWord(&map_.ctl()->event_consumed).load(std::memory_order_relaxed);
    while (!ended_.empty() && ended_.front().end_event < consumed) {
      free_entries_.push_back(ended_.front().entry);
      ended_.pop_front();
    }
    // The table is full: a late collector will not know this request's id.
    if (free_entries_.empty()) return kNoEntry;
  }
  const std::uint32_t entry = free_entries_.back();
  free_entries_.pop_back();
  return entry;
}

SharedWord RequestTable::entry_word(std::uint32_t entry, std::size_t word) const {
  return SharedWord(reinterpret_cast<std::uint64_t*>(map_.requests() + entry) + word);
}

}  // namespace moetrace
