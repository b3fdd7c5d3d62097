#include "daemon/collector/span_join.hpp"

#include <algorithm>

namespace moetrace {
namespace {

// The memory of a live request, roughly: its texts, and 200 bytes for strings, node and allocator.
std::size_t bytes_of(const RequestEvent& request, const RouteOrigin& origin) {
  return 200 + request.id.size() + origin.prefix.size() + origin.suffix.size();
}

}  // namespace

void SpanJoin::add_request(const RequestEvent& request, std::uint64_t event) {
  if (const auto old = requests_.find(request.request); old != requests_.end()) retire(old, event);
  RouteOrigin origin = route_origin(json_string(request.id), request.request);
  bytes_ += bytes_of(request, origin);
  requests_.emplace(request.request, Request{request, event, std::nullopt, std::move(origin)});
  if (bytes_ > most_bytes_) forget_oldest(event);
  std::fill(origins_.begin(), origins_.end(), nullptr);
}

void SpanJoin::end_request(std::uint64_t request, std::uint64_t event) {
  const auto found = requests_.find(request);
  if (found == requests_.end()) return;
  found->second.ended = event;
  ended_.push_back({event, request});
  // The entered step may point at it.
  std::fill(origins_.begin(), origins_.end(), nullptr);
}

void SpanJoin::release(std::uint64_t event) {
  for (; !ended_.empty() && ended_.front().event < event; ended_.pop_front()) {
    const auto found = requests_.find(ended_.front().request);
    // Another request may have its number since.
    if (found == requests_.end() || found->second.ended != ended_.front().event) continue;
    bytes_ -= bytes_of(found->second.began, found->second.origin);
    requests_.erase(found);
  }
  while (!retired_.empty() && retired_.front().event < event) retired_.pop_front();
}

// Origins of rows that are not text yet point into it.
void SpanJoin::retire(Requests::iterator request, std::uint64_t event) {
  bytes_ -= bytes_of(request->second.began, request->second.origin);
  retired_.push_back({event, requests_.extract(request)});
}

// Forgets an eighth at a time: the search for the oldest is shared by many new requests.
void SpanJoin::forget_oldest(std::uint64_t event) {
  std::vector<std::uint64_t> numbers;
  numbers.reserve(requests_.size());
  for (const auto& [number, request] : requests_) numbers.push_back(number);
  const std::size_t count = std::max<std::size_t>(numbers.size() / 8, 1);
  std::nth_element(numbers.begin(), numbers.begin() + static_cast<std::ptrdiff_t>(count) - 1,
                   numbers.end());
  for (std::size_t n = 0; n < count; ++n) retire(requests_.find(numbers[n]), event);
  forgotten_ += count;
}

std::vector<RequestEvent> SpanJoin::live_at(std::uint64_t event) const {
  std::vector<RequestEvent> live;
  for (const auto& [number, request] : requests_) {
    if (request.event < event) live.push_back(request.began);
  }
  std::sort(live.begin(), live.end(),
            [](const RequestEvent& a, const RequestEvent& b) { return a.request < b.request; });
  return live;
}

const RequestEvent* SpanJoin::request(std::uint64_t number) const {
  const auto found = requests_.find(number);
  return found == requests_.end() || found->second.ended ? nullptr : &found->second.began;
}

void SpanJoin::enter(StepEvent step) {
  origins_.assign(step.spans.size(), nullptr);
  last_span_ = 0;
  step_ = std::move(step);
}

const RouteOrigin* SpanJoin::origin_of(std::uint64_t request) const {
  const auto found = requests_.find(request);
  return found == requests_.end() || found->second.ended ? &unknown_ : &found->second.origin;
}

SpanJoin::Place SpanJoin::place(std::uint32_t row) {
  const auto& spans = step_->spans;
  const auto holds = [&](std::size_t n) {
    return n < spans.size() && row - spans[n].first_row < spans[n].rows;
  };
  if (!holds(last_span_)) {
    if (holds(last_span_ + 1)) {
      ++last_span_;
    } else {
      const auto after = std::upper_bound(
          spans.begin(), spans.end(), row,
          [](std::uint32_t r, const moetrace_span& span) { return r < span.first_row; });
      if (after == spans.begin()) return {&unknown_, std::nullopt, 1};
      last_span_ = static_cast<std::size_t>(after - spans.begin()) - 1;
      if (!holds(last_span_)) return {&unknown_, std::nullopt, 1};
    }
  }
  const moetrace_span& span = spans[last_span_];
  if (origins_[last_span_] == nullptr) origins_[last_span_] = origin_of(span.request);
  const std::uint32_t before = row - span.first_row;
  const std::uint32_t rows = span.rows - before;
  if (span.first_position == MOETRACE_UNKNOWN_POSITION)
    return {origins_[last_span_], std::nullopt, rows};
  return {origins_[last_span_], span.first_position + before, rows};
}

void SpanJoin::places(std::span<std::uint64_t> requests, std::span<std::uint64_t> token_idx) {
  for (const moetrace_span& span : step_->spans) {
    const RouteOrigin& origin = *origin_of(span.request);
    for (std::uint32_t n = 0; n < span.rows; ++n) {
      const std::size_t row = std::size_t{span.first_row} + n;
      if (origin.request) requests[row] = *origin.request;
      if (span.first_position != MOETRACE_UNKNOWN_POSITION)
        token_idx[row] = span.first_position + n;
    }
  }
}

}  // namespace moetrace
