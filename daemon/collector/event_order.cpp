#include "daemon/collector/event_order.hpp"

#include <algorithm>

#include "daemon/collector/lines.hpp"
#include "shm/layer_mask.hpp"

namespace moetrace {
namespace {

// The largest step, request or position: readers of a trace may keep them as signed numbers.
constexpr std::uint64_t kMostNumber = std::uint64_t{1} << 62;

bool has_position(const moetrace_span& span) {
  return span.first_position != MOETRACE_UNKNOWN_POSITION;
}

// Whether two rows of the pass claim the same token. The spans' rows are disjoint.
bool repeats_a_token(const std::vector<moetrace_span>& spans) {
  // Fast path: in most passes each request has one span, in ascending order.
  const auto later = [](const moetrace_span& a, const moetrace_span& b) {
    return a.request >= b.request;
  };
  if (std::adjacent_find(spans.begin(), spans.end(), later) == spans.end()) return false;
  std::vector<moetrace_span> sorted;
  std::copy_if(spans.begin(), spans.end(), std::back_inserter(sorted), has_position);
  std::sort(sorted.begin(), sorted.end(), [](const moetrace_span& a, const moetrace_span& b) {
    return a.request != b.request ? a.request < b.request : a.first_position < b.first_position;
  });
  const auto meets = [](const moetrace_span& a, const moetrace_span& b) {
    return a.request == b.request && b.first_position - a.first_position < a.rows;
  };
  return std::adjacent_find(sorted.begin(), sorted.end(), meets) != sorted.end();
}

std::string check_spans(const StepEvent& step) {
  std::uint64_t end = 0;
  for (const moetrace_span& span : step.spans) {
    if (span.first_row < end) return "a step whose spans overlap";
    end = std::uint64_t{span.first_row} + span.rows;
    if (end > step.rows) return "a step whose spans end after its rows";
    if (has_position(span) && span.first_position > kMostNumber)
      return "a span from position " + std::to_string(span.first_position);
  }
  if (repeats_a_token(step.spans)) return "a step whose spans name a token twice";
  return {};
}

}  // namespace

std::string EventOrder::take(const Event& event) {
  return std::visit([this](const auto& body) { return take(body); }, event.body);
}

void EventOrder::take_request(std::uint64_t request) {
  next_request_ = std::max(next_request_, request + 1);
}

void EventOrder::take_step(std::uint64_t step, std::int64_t time_ns) {
  next_step_ = std::max(next_step_, step + 1);
  last_time_ns_ = std::max(last_time_ns_, time_ns);
}

std::string EventOrder::take(const StepEvent& step) {
  if (step.step < next_step_ || step.step > kMostNumber)
    return "step " + std::to_string(step.step) + " where " + std::to_string(next_step_) +
           " or a later one must come";
  if (step.layers > num_layers_) {
    return "a step of " + std::to_string(step.layers) + " layers of " + std::to_string(num_layers_);
  }
  if (step.time_ns < last_time_ns_) return "a step before the time of the last one";
  if (std::string why = check_spans(step); !why.empty()) return why;
  records_ += std::uint64_t{step.rows} * step.layers;
  if (records_ > kMostRecords) return "more announced records than a trace can have";
  take_step(step.step, step.time_ns);
  return {};
}

std::string EventOrder::take(const RequestEvent& request) {
  if (request.request < next_request_ || request.request > kMostNumber) {
    return "request " + std::to_string(request.request) + " where " +
           std::to_string(next_request_) + " or a later one must come";
  }
  take_request(request.request);
  return {};
}

std::string EventOrder::take(const ControlEvent& control) {
  if (control.from_step < next_step_ || control.from_step > kMostNumber) {
    return "a change from step " + std::to_string(control.from_step) + " on, where " +
           std::to_string(next_step_) + " comes next";
  }
  if (count_layers(without(control.layers, moe_layers_)) > 0)
    return "a change to layers that have no experts";
  return {};
}

}  // namespace moetrace
