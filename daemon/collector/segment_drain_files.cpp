// Where a drain stands in its trace's files: at its start, and from part to part.
#include <algorithm>

#include "daemon/collector/segment_drain.hpp"
#include "shm/ledger.hpp"

namespace moetrace {

// ---- finding the place

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
    committed_ = {totals_, position->next_seq, events_written_, std::nullopt};
    finished_ = position->ended && file_.position();
    if (finished_ && position->end_status == kBadSegmentEnd)
      return bad("its trace has ended, because what it holds can't be");
  }
  if (route_ > kMostRecords || event_consumed > kMostRecords)
    return bad("consumed positions that can't be");
  // Requests that began before the events that are still in the ring.
  for (const RequestEvent& request : requests_in_table(map, event_consumed)) {
    join_.add_request(request, 0);
    order_.take_request(request.request);
  }

  if (!position) return start_late();
  if (position->next_seq < route_) {
    // Slots that were consumed without a line were left out on purpose: place_trace() refuses a
    // file that has lost its end.
    if (route_ - position->next_seq > totals_.open())
      return bad("a consumed position after the last announced row");
    totals_.filtered += route_ - position->next_seq;
  } else {
    route_ = position->next_seq;
  }
  if (beyond_ring(route_)) return bad("its trace file is ahead of it");
  if (auto error = apply_written_events()) return error;
  if (position->last_step) order_.take_step(*position->last_step, position->last_time_ns);
  commit();
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
  out_.append(meta_);
  mark(false, 0, std::nullopt);
  const auto ledger = read_ledger(map);
  if (!ledger) {
    if (route_ != 0 || event_consumed != 0) return bad("consumed positions without a ledger");
    return std::nullopt;
  }
  if (ledger->route < route_ || ledger->route - route_ > map.header().route_slots ||
      ledger->event < event_consumed || ledger->event - event_consumed > map.header().event_slots ||
      ledger->filtered > ledger->route) {
    return bad("a ledger that does not fit the consumed positions");
  }
  const Totals totals{ledger->attempted,  ledger->route - ledger->filtered,
                      ledger->filtered,   ledger->dropped,
                      ledger->event_lost, 0,
                      ledger->unclaimed};
  if (!totals.possible()) return bad("a ledger of totals that can't be");
  route_ = ledger->route;
  events_written_ = ledger->event;
  totals_ = totals;
  base_ = known_from_ = totals_;
  if (auto error = apply_written_events()) return error;
  commit();
  const std::size_t begin = out_.size();
  append_start(out_, part_, totals_, route_, events_written_, committed_.step);
  mark(false, begin, std::nullopt);
  for (const RequestEvent& request : join_.live_at(events_written_)) {
    const std::size_t line = out_.size();
    append_request(out_, request, std::nullopt);
    mark(false, line, std::nullopt);
  }
  return std::nullopt;
}

// What the file, or one before it, has already: only its effect is needed.
std::optional<Error> SegmentDrain::apply_written_events() {
  while (events_.position() < events_written_) {
    const auto event = next_event();
    if (!event) return event.error();
    if (!*event) break;
    apply_event(**event);
  }
  join_.forget_ended();
  // Some of the last one's records may have been seen before.
  step_left_ = std::min(step_left_, totals_.open());
  // Which of them were selected so far is not looked up again.
  allowed_layers_ = segment_.map().header().moe_layers;
  return std::nullopt;
}

// ---- from part to part

void SegmentDrain::commit() {
  join_.forget_ended();
  committed_ = {totals_, route_, events_written_, std::nullopt};
  if (totals_.open() > 0 && join_.step()) committed_.step = join_.step()->step;
}

// Nobody is told of these lines: subscribers follow the trace, and parts are how its files are cut.
void SegmentDrain::begin_part() {
  base_ = committed_.totals;
  head_bytes_ = 0;
  head_.clear();
  head_.append(meta_);
  append_start(head_, part_, base_, committed_.route, committed_.events, committed_.step);
  for (const RequestEvent& request : join_.live_at(committed_.events))
    append_request(head_, request, std::nullopt);
}

void SegmentDrain::complete_head(const std::set<std::uint64_t>& named) {
  head_bytes_ = file_.size();
  for (const RequestEvent& request : join_.live_at(committed_.events)) {
    if (!named.contains(request.request)) append_request(head_, request, std::nullopt);
  }
}

bool SegmentDrain::write_head() {
  if (head_.empty()) return true;
  if (!file_.append(head_.view())) return false;
  head_.clear();
  head_bytes_ = file_.size();
  return true;
}

bool SegmentDrain::can_change_file() const {
  return !finished_ && !bad_ && !file_lost_ && !next_file_ && head_.empty() && out_.empty();
}

void SegmentDrain::go_on_in(TraceFile next) {
  // Not published, as the lines of begin_part() are not.
  Totals here = totals_.since(base_);
  here.attempted -= totals_.open();
  append_end(out_, here, kContinued, read_cost(segment_.map()), totals_.open());
  next_file_ = std::move(next);
}

void SegmentDrain::change_file() {
  if (file_.state() == TraceFile::State::kWhole) {
    closing_.push_back({std::move(file_), {}, {}});
  } else {
    lost_rows_ += totals_.delivered - base_.delivered;
  }
  file_ = std::move(*next_file_);
  next_file_.reset();
  ++part_;
  begin_part();
}

// The drain goes on meanwhile.
void SegmentDrain::sync_closed_parts() {
  for (auto part = closing_.begin(); part != closing_.end();)
    part = part->sync.advance(part->file) ? closing_.erase(part) : std::next(part);
}

// Once the trace has ended. kEnded: every file that it still has is on the disk.
SegmentDrain::State SegmentDrain::bring_to_disk() {
  sync_closed_parts();
  on_disk_ = on_disk_ || sync_.advance(file_);
  if (on_disk_ && closing_.empty()) return State::kEnded;
  why_blocked_ = on_disk_ ? "" : sync_.why();
  for (const ClosedPart& part : closing_) {
    if (!part.sync.why().empty()) why_blocked_ = part.sync.why();
  }
  return why_blocked_.empty() ? State::kSyncing : State::kBlocked;
}

bool SegmentDrain::wait_for_disk() const {
  sync_.wait();
  for (const ClosedPart& part : closing_) part.sync.wait();
  return std::all_of(closing_.begin(), closing_.end(),
                     [](const ClosedPart& part) { return part.sync.why().empty(); });
}

// Each reason once, while the trace goes on.
std::string SegmentDrain::unsaid_sync_failure() {
  for (ClosedPart& part : closing_) {
    if (part.sync.why() == part.said || finished_) continue;
    part.said = part.sync.why();
    // A part that recovered has nothing to say, and must not hide the next part's failure.
    if (!part.said.empty()) return part.said;
  }
  return {};
}

SegmentDrain::State SegmentDrain::lose_file() {
  file_lost_ = true;
  return State::kFileLost;
}

bool SegmentDrain::go_on_in_emptied_file() {
  if (!file_.begin_anew()) return false;
  replace_file(std::move(file_));
  return true;
}

void SegmentDrain::replace_file(TraceFile next) {
  lost_rows_ += committed_.totals.delivered - base_.delivered;
  sync_.wait();
  sync_ = {};
  on_disk_ = false;
  file_ = std::move(next);
  file_lost_ = false;
  // An end line stands alone in out_, and tells of the file that is gone. Where the trace has
  // ended, the next pass writes another one.
  if (next_file_ || finished_) {
    out_.clear();
    batch_.runs.clear();
  }
  next_file_.reset();
  finished_ = false;
  ++part_;
  begin_part();
}

}  // namespace moetrace
