// Where a drain starts: after the last line of its trace's files, or where the ledger says.
#include <algorithm>

#include "daemon/collector/segment_drain.hpp"
#include "shm/ledger.hpp"

namespace moetrace {

std::optional<Error> SegmentDrain::start(std::uint64_t part,
                                         const std::optional<TracePosition>& position) {
  const SegmentMap& map = segment_.map();
  const std::uint64_t event_consumed = events_.position();
  part_ = part;
  events_entered_ = event_consumed;
  if (const auto ledger = read_ledger(map)) ledger_number_ = ledger->number;
  if (position) {
    totals_ = position->totals;
    base_ = position->base;
    if (part_ == 1) known_from_ = base_;
    events_written_ = position->last_event ? *position->last_event + 1 : 0;
    committed_ = {totals_, events_written_, std::nullopt};
    checked_.totals = totals_;
    checked_.events = events_written_;
    finished_ = position->ended && file_.position();
    if (finished_ && position->end_status == kBadSegmentEnd)
      return bad("its trace has ended, because what it holds can't be");
  }
  if (route_ > kMostRecords || event_consumed > kMostRecords)
    return bad("consumed positions that can't be");
  // Requests whose begin event has left the ring.
  for (const RequestEvent& request : requests_in_table(map, event_consumed)) {
    join_.add_request(request, 0);
    order_.take_request(request.request);
  }

  if (!position) return start_late();
  // The filter left out consumed slots without a line: place_trace() refuses a file that has lost
  // its end.
  if (totals_.next_seq() < route_) {
    if (route_ - totals_.next_seq() > totals_.open())
      return bad("a consumed position after the last announced row");
    totals_.filter_up_to(route_);
  } else {
    route_ = totals_.next_seq();
  }
  if (beyond_ring(route_)) return bad("its trace file is ahead of it");
  if (auto error = apply_written_events()) return error;
  if (position->last_step) order_.take_step(*position->last_step, position->last_time_ns);
  commit(here());
  remember_checked();
  take_form();
  if (!file_.position()) {
    begin_part();
  } else if (position->head) {
    complete_head(*position->head);
  }
  return std::nullopt;
}

std::optional<Error> SegmentDrain::start_late() {
  const SegmentMap& map = segment_.map();
  const std::uint64_t event_consumed = events_.position();
  take_form();
  out_.append(meta_);
  mark(0);
  // The head is written before anything is read.
  writing_ = true;
  const auto ledger = read_ledger(map);
  if (!ledger) {
    if (route_ != 0 || event_consumed != 0) return bad("consumed positions without a ledger");
    return std::nullopt;
  }
  const auto totals = RunningTotals::from_ledger({.seq = ledger->route,
                                                  .attempted = ledger->attempted,
                                                  .filtered = ledger->filtered,
                                                  .hook_dropped = ledger->dropped,
                                                  .event_lost = ledger->event_lost,
                                                  .unclaimed = ledger->unclaimed});
  if (!totals || ledger->route < route_ || ledger->route - route_ > map.header().route_slots ||
      ledger->event < event_consumed || ledger->event - event_consumed > map.header().event_slots) {
    return bad("a ledger that does not fit the consumed positions");
  }
  if (!totals->possible()) return bad("a ledger of totals that can't be");
  route_ = ledger->route;
  events_written_ = ledger->event;
  totals_ = *totals;
  base_ = known_from_ = totals_;
  if (auto error = apply_written_events()) return error;
  commit(here());
  remember_checked();
  take_form();
  const std::size_t begin = out_.size();
  append_start(out_, part_, totals_, events_written_, committed_.step);
  mark(begin);
  for (const RequestEvent& request : join_.live_at(events_written_)) {
    const std::size_t line = out_.size();
    append_request(out_, request, std::nullopt);
    mark(line);
  }
  return std::nullopt;
}

// Repeats the effect of events that have their line in this file or in an earlier part.
std::optional<Error> SegmentDrain::apply_written_events() {
  while (events_.position() < events_written_) {
    const auto event = next_event();
    if (!event) return event.error();
    if (!*event) break;
    apply_event(**event);
  }
  join_.release(events_written_);
  // The file may have some records of the last step.
  step_left_ = std::min(step_left_, totals_.open());
  // Allow every MoE layer: which of them were selected before the restart is unknown.
  allowed_layers_ = segment_.map().header().moe_layers;
  return std::nullopt;
}

}  // namespace moetrace
