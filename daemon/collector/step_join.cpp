#include "daemon/collector/step_join.hpp"

#include <algorithm>

namespace moetrace {

void StepJoin::add_request(const RequestEvent& request, std::uint64_t event) {
  std::string id = json_string(request.id);
  RouteOrigin origin = route_origin(id, request.request);
  requests_.insert_or_assign(request.request,
                             Request{request, event, std::move(id), std::move(origin)});
  std::fill(origins_.begin(), origins_.end(), nullptr);
}

void StepJoin::end_request(std::uint64_t request) {
  ended_.push_back(request);
}

void StepJoin::forget_ended() {
  if (ended_.empty()) return;
  for (const std::uint64_t request : ended_) requests_.erase(request);
  ended_.clear();
  // The step that was entered may have pointed at one of them.
  std::fill(origins_.begin(), origins_.end(), nullptr);
}

std::vector<RequestEvent> StepJoin::live_at(std::uint64_t event) const {
  std::vector<RequestEvent> live;
  for (const auto& [number, request] : requests_) {
    if (request.event < event) live.push_back(request.began);
  }
  std::sort(live.begin(), live.end(),
            [](const RequestEvent& a, const RequestEvent& b) { return a.request < b.request; });
  return live;
}

std::string StepJoin::json_id(std::uint64_t request) const {
  const auto found = requests_.find(request);
  return found == requests_.end() ? "null" : found->second.json_id;
}

void StepJoin::enter(StepEvent step) {
  origins_.assign(step.spans.size(), nullptr);
  last_span_ = 0;
  step_ = std::move(step);
}

const RouteOrigin* StepJoin::origin_of(std::uint64_t request) const {
  const auto found = requests_.find(request);
  return found == requests_.end() ? &unknown_ : &found->second.origin;
}

StepJoin::Place StepJoin::place(std::uint32_t row) {
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
      if (after == spans.begin()) return {&unknown_, std::nullopt};
      last_span_ = static_cast<std::size_t>(after - spans.begin()) - 1;
      if (!holds(last_span_)) return {&unknown_, std::nullopt};
    }
  }
  const moetrace_span& span = spans[last_span_];
  if (origins_[last_span_] == nullptr) origins_[last_span_] = origin_of(span.request);
  if (span.first_position == MOETRACE_UNKNOWN_POSITION) return {origins_[last_span_], std::nullopt};
  return {origins_[last_span_], span.first_position + (row - span.first_row)};
}

}  // namespace moetrace
