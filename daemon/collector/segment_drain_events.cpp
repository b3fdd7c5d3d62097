// The events of a drain: their lines, and the losses that a finished step leaves.
#include <algorithm>

#include "daemon/collector/segment_drain.hpp"
#include "shm/layer_mask.hpp"

namespace moetrace {

Result<std::optional<Event>> SegmentDrain::next_event() {
  auto event = events_.next();
  if (!event) return bad(event.error().message);
  if (!*event) return event;
  if (const std::string why = order_.take(**event); !why.empty())
    return bad("event slot " + std::to_string((*event)->position) + ": " + why);
  return event;
}

std::optional<Error> SegmentDrain::read_events() {
  const std::uint64_t enough = events_.position() + kEventSlotsAPass;
  while (events_.position() < enough) {
    auto event = next_event();
    if (!event) return event.error();
    more_events_ = event->has_value();
    if (!more_events_) return std::nullopt;
    pending_.push_back(std::move(**event));
  }
  return std::nullopt;
}

void SegmentDrain::write_next_event() {
  write_event(pending_.front());
  pending_.pop_front();
  if (events_left_ > 0) --events_left_;
}

void SegmentDrain::write_event(const Event& event) {
  write_holes();
  const std::size_t begin = out_.size();
  if (const auto* step = std::get_if<StepEvent>(&event.body)) {
    totals_.announce(std::uint64_t{step->rows} * step->layers);
    // Holes that no earlier step explains belong to this one: next_seq() lies before them.
    append_step(out_, *step, step->time_ns, totals_, event.position);
  } else if (const auto* request = std::get_if<RequestEvent>(&event.body)) {
    append_request(out_, *request, event.position);
  } else if (const auto* request_end = std::get_if<RequestEndEvent>(&event.body)) {
    // An unknown request gets no end line: the trace has no `req_id` for it.
    if (const RequestEvent* live = join_.request(request_end->request))
      append_request_end(out_, *request_end, json_string(live->id), event.position);
  } else if (const auto* control = std::get_if<ControlEvent>(&event.body)) {
    append_control(out_, *control, event.position,
                   control->enabled ? std::string_view() : stop_reason_);
  }
  if (out_.size() > begin) mark(begin);
  events_written_ = event.position + 1;
  apply_event(event);
}

void SegmentDrain::apply_event(const Event& event) {
  if (const auto* step = std::get_if<StepEvent>(&event.body)) {
    join_.enter(*step);
    step_text_ = RouteText::step_text(step->step);
    step_event_ = event.position;
    step_over_ = false;
    step_left_ = std::uint64_t{step->rows} * step->layers;
    next_place_ = 0;
    layer_ = -1;
    layers_seen_ = 0;
  } else if (const auto* request = std::get_if<RequestEvent>(&event.body)) {
    join_.add_request(*request, event.position);
  } else if (const auto* end = std::get_if<RequestEndEvent>(&event.body)) {
    join_.end_request(end->request, event.position);
  } else if (const auto* control = std::get_if<ControlEvent>(&event.body)) {
    allowed_layers_ = unite(allowed_layers_, control->layers);
  }
  events_entered_ = event.position + event.slots;
}

// The drain has read every slot that was claimed before the snapshot, so every step below its
// steps_done is over.
std::optional<Error> SegmentDrain::settle(const moetrace_snapshot& snapshot) {
  const std::uint64_t steps_done = snapshot.steps_done;
  const auto step_of = [](const Event& event) { return std::get_if<StepEvent>(&event.body); };
  while (!pending_.empty()) {
    const StepEvent* step = step_of(pending_.front());
    if (step != nullptr && step->step >= steps_done) break;
    // An event that follows the step under way waits until that step is over.
    if (join_.step() && join_.step()->step >= steps_done) break;
    if (events_left_ == 0) return std::nullopt;
    write_next_event();
  }
  if (join_.step() && join_.step()->step >= steps_done) return std::nullopt;
  step_over_ = true;
  step_left_ = 0;
  if (auto error = settle_losses(snapshot.dropped)) return error;
  settle_missing();
  return std::nullopt;
}

// All announced steps are over: a row that is still open never reached a slot.
void SegmentDrain::settle_missing() {
  const std::uint64_t missing = totals_.open();
  if (missing == 0) return;
  totals_.tear_unclaimed(missing);
  const std::size_t begin = out_.size();
  append_torn(out_, std::nullopt, missing);
  mark(begin);
}

std::optional<Error> SegmentDrain::settle_losses(std::uint64_t hook_dropped) {
  if (hook_dropped < totals_.hook_dropped() || event_lost_seen_ < totals_.event_lost())
    return bad("a counter that went back");
  if (event_lost_seen_ > kMostRecords) return bad("more lost records than a trace can have");
  const std::optional<std::uint64_t> after = route_ > 0 ? std::optional(route_ - 1) : std::nullopt;
  if (const std::uint64_t lost = event_lost_seen_ - totals_.event_lost(); lost > 0) {
    totals_.lose_events_up_to(event_lost_seen_);
    const std::size_t begin = out_.size();
    append_loss(out_, lost, totals_, "event_ring_full", after);
    mark(begin);
  }
  if (const std::uint64_t lost = hook_dropped - totals_.hook_dropped(); lost > 0) {
    if (lost > totals_.open()) return bad("more drops than announced rows");
    totals_.drop_up_to(hook_dropped);
    const std::size_t begin = out_.size();
    append_loss(out_, lost, totals_, "ring_full", after);
    mark(begin);
  }
  return std::nullopt;
}

// The producer keeps the events of a step under way: a collector that restarts needs its spans.
std::uint64_t SegmentDrain::releasable_events() const {
  return join_.step() && !step_over_ ? step_event_ : events_entered_;
}

}  // namespace moetrace
