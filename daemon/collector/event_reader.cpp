#include "daemon/collector/event_reader.hpp"

#include <algorithm>
#include <array>
#include <cstring>

namespace moetrace {
namespace {

// The text of a fixed-size field up to its 0.
template <std::size_t N>
std::string text_of(const char (&field)[N]) {
  return std::string(field, ::strnlen(field, N));
}

}  // namespace

EventReader::EventReader(const SegmentMap& map, std::uint64_t position)
    : capacity_(map.header().event_slots),
      ring_(map.event_ring(), capacity_, position),
      position_(position) {}

template <class T>
T EventReader::copy_slot(std::uint64_t position) const {
  static_assert(sizeof(T) == 64);
  T copy;
  std::memcpy(&copy, ring_.memory().slot(position), sizeof copy);
  return copy;
}

Error EventReader::bad(const std::string& why) const {
  return {ErrorCode::kBadSegment, "event slot " + std::to_string(position_) + ": " + why};
}

Result<std::optional<Event>> EventReader::next() {
  const auto upper = ring_.upper_at(position_);
  if (!upper) return std::optional<Event>();
  const auto kind = static_cast<std::uint8_t>(*upper);
  const std::uint64_t slots = *upper >> 16;
  if (slots == 0 || slots > capacity_) return bad("a group of " + std::to_string(slots) + " slots");
  if (position_ + slots - ring_.published() > capacity_)
    return bad("more than a ring after the consumed position");

  Result<std::optional<Event>> event = std::optional<Event>();
  switch (kind) {
    case MOETRACE_EVENT_STEP:
      event = read_step(slots);
      break;
    case MOETRACE_EVENT_REQUEST:
      event = read_request(slots);
      break;
    case MOETRACE_EVENT_REQUEST_END: {
      const auto raw = copy_slot<moetrace_request_end_event>(position_);
      event = std::optional<Event>(
          Event{position_, slots,
                RequestEndEvent{raw.request, raw.generated_tokens, text_of(raw.status)}});
      break;
    }
    case MOETRACE_EVENT_CONTROL: {
      const auto raw = copy_slot<moetrace_control_event>(position_);
      event = std::optional<Event>(
          Event{position_, slots,
                ControlEvent{raw.from_step, raw.enabled != 0, raw.sample_every, raw.layers}});
      break;
    }
    default:
      event = std::optional<Event>(Event{position_, slots, UnknownEvent{}});
  }
  if (event && *event) position_ += slots;
  return event;
}

// The producer stores the head last, so every slot after it must be valid.
bool EventReader::continues(std::uint64_t position, moetrace_event_kind kind) const {
  const auto upper = ring_.upper_at(position);
  return upper && static_cast<std::uint8_t>(*upper) == kind;
}

Result<std::optional<Event>> EventReader::read_step(std::uint64_t slots) {
  const auto raw = copy_slot<moetrace_step_event>(position_);
  if (slots != 1 + (std::uint64_t{raw.spans} + 1) / 2)
    return bad("a step whose spans do not fit its slots");
  StepEvent step{raw.step, raw.time_ns, raw.rows, raw.layers, {}};
  if (step.layers > MOETRACE_MAX_LAYERS) return bad("a step of more than 256 layers");
  step.spans.reserve(raw.spans);
  for (std::uint64_t n = 1; n < slots; ++n) {
    if (!continues(position_ + n, MOETRACE_EVENT_SPAN)) return bad("a step without its spans");
    const auto pair = copy_slot<moetrace_span_event>(position_ + n);
    for (std::uint64_t half = 0; half < 2 && 2 * (n - 1) + half < raw.spans; ++half) {
      if (pair.span[half].rows > 0) step.spans.push_back(pair.span[half]);
    }
  }
  std::sort(
      step.spans.begin(), step.spans.end(),
      [](const moetrace_span& a, const moetrace_span& b) { return a.first_row < b.first_row; });
  return std::optional<Event>(Event{position_, slots, std::move(step)});
}

Result<std::optional<Event>> EventReader::read_request(std::uint64_t slots) {
  const auto raw = copy_slot<moetrace_request_event>(position_);
  if (raw.id_bytes > MOETRACE_MAX_REQUEST_ID) return bad("a request id of more than 255 bytes");
  RequestEvent request{raw.request, raw.prompt_tokens, raw.cached_tokens, {}};
  request.id.assign(raw.id, std::min<std::size_t>(raw.id_bytes, sizeof raw.id));
  for (std::uint64_t n = 1; n < slots && request.id.size() < raw.id_bytes; ++n) {
    if (!continues(position_ + n, MOETRACE_EVENT_TEXT))
      return bad("a request without the rest of its id");
    const auto text = copy_slot<moetrace_text_event>(position_ + n);
    request.id.append(text.text,
                      std::min<std::size_t>(raw.id_bytes - request.id.size(), sizeof text.text));
  }
  if (request.id.size() != raw.id_bytes) return bad("a request whose id does not fit its slots");
  return std::optional<Event>(Event{position_, slots, std::move(request)});
}

std::vector<RequestEvent> requests_in_table(const SegmentMap& map, std::uint64_t event) {
  std::vector<RequestEvent> requests;
  for (std::uint32_t n = 0; n < map.header().request_slots; ++n) {
    std::array<std::uint64_t, sizeof(moetrace_request_entry) / 8> words;
    auto* shared = reinterpret_cast<std::uint64_t*>(map.requests() + n);
    // acquire: synchronizes with the release store of the number in the producer's request table:
    // the entry is whole.
    words[0] = SharedWord(shared).load(std::memory_order_acquire);
    if (words[0] == 0) continue;
    for (std::size_t w = 1; w < words.size(); ++w)
      words[w] = SharedWord(shared + w).load(std::memory_order_acquire);
    // relaxed: if a word above belongs to a later request, its acquire has made the 0 before that
    // request visible.
    if (SharedWord(shared).load(std::memory_order_relaxed) != words[0]) continue;
    moetrace_request_entry entry;
    std::memcpy(&entry, words.data(), sizeof entry);
    // Only requests that began before `event` and did not end before it: the ring has the later
    // events.
    if (entry.begin_event >= event || entry.end_event < event ||
        entry.id_bytes > MOETRACE_MAX_REQUEST_ID)
      continue;
    requests.push_back({entry.number_plus_1 - 1, entry.prompt_tokens, entry.cached_tokens,
                        std::string(entry.id, entry.id_bytes)});
  }
  std::sort(requests.begin(), requests.end(),
            [](const RequestEvent& a, const RequestEvent& b) { return a.request < b.request; });
  const auto same = [](const RequestEvent& a, const RequestEvent& b) {
    return a.request == b.request;
  };
  requests.erase(std::unique(requests.begin(), requests.end(), same), requests.end());
  return requests;
}

}  // namespace moetrace
