#include "daemon/collector/segment_drain.hpp"

#include <algorithm>
#include <cstring>

#include "producer/layer_mask.hpp"

namespace moetrace {
namespace {

using Clock = std::chrono::steady_clock;

// Slots a pass: about 200 kB of text, enough for a write to be worth its system call and little
// enough to stay in the cache.
constexpr std::uint64_t kSlotsAPass = 1024;
// The same for events, and twice that to read, so that reading leads.
constexpr std::uint64_t kEventsAPass = 1024;
constexpr std::uint64_t kEventSlotsAPass = 2 * kEventsAPass;
// Looking at a slot of a dead producer's ring takes some 5 ns.
constexpr std::uint64_t kScannedSlotsAPass = 1 << 16;
// Live requests may take as much as their segment does, and this much in a tiny one.
constexpr std::uint64_t kLeastRequestBytes = 1 << 20;
// A GPU may outlive its process for a moment.
constexpr auto kGpuAfterlife = std::chrono::milliseconds(200);
// Asking for the producer's lock opens a file; this often is soon enough.
constexpr auto kProbeEvery = std::chrono::milliseconds(50);

std::uint64_t shared_word(std::uint64_t* word) {
  // acquire: pairs with the release stores of the producer's counters and of a former collector's
  // positions.
  return SharedWord(word).load(std::memory_order_acquire);
}

}  // namespace

Result<std::unique_ptr<SegmentDrain>> SegmentDrain::attach(CollectorSegment segment, TraceFile file,
                                                           const moetrace_layer_mask& filter,
                                                           Publish publish) {
  std::unique_ptr<SegmentDrain> drain(
      new SegmentDrain(std::move(segment), std::move(file), filter, std::move(publish)));
  auto error = drain->start();
  if (!drain->segment_.intact()) error = drain->cut();
  if (!error) return drain;
  // The first pass writes the end, unless the file has one.
  if (error->code != ErrorCode::kBadSegment || drain->finished_) return *error;
  drain->end_bad(*error);
  return drain;
}

SegmentDrain::SegmentDrain(CollectorSegment segment, TraceFile file,
                           const moetrace_layer_mask& filter, Publish publish)
    : segment_(std::move(segment)),
      file_(std::move(file)),
      filter_(filter),
      publish_(std::move(publish)),
      meta_(meta_line(segment_.map().header(), segment_.name().trace_id)),
      routes_(segment_.map().route_ring(), segment_.map().header().route_slots,
              shared_word(&segment_.map().ctl()->route_consumed)),
      route_(routes_.published()),
      events_(segment_.map(), shared_word(&segment_.map().ctl()->event_consumed)),
      order_(segment_.map().header()),
      allowed_layers_(segment_.map().header().layers_logged),
      join_(std::max(segment_.map().header().ring_bytes, kLeastRequestBytes)),
      text_(segment_.map().header().num_layers, segment_.map().header().num_experts,
            segment_.map().header().top_k),
      last_new_(Clock::now()) {}

Error SegmentDrain::bad(const std::string& why) const {
  return {ErrorCode::kBadSegment,
          segment_.name().ring_file() + ": " + why +
              "; it is left alone, remove its two files when its producer has ended"};
}

Error SegmentDrain::cut() const {
  return bad("one of its files was cut while it was in use");
}

// ---- finding the place

std::optional<Error> SegmentDrain::start() {
  const SegmentMap& map = segment_.map();
  const std::uint64_t event_consumed = events_.position();
  events_entered_ = event_consumed;
  if (const auto ledger = map.ledger().read()) ledger_number_ = ledger->number;
  if (file_.position() && file_.position()->ended) {
    begun_ = finished_ = true;
    if (file_.position()->status == kBadSegmentStatus)
      return bad("its trace has ended, because what it holds can't be");
    return std::nullopt;
  }
  if (file_.position()) {
    begun_ = true;
    totals_ = in_file_ = file_.position()->totals;
    base_ = file_.position()->base;
    if (!base_.possible() || !totals_.possible() || !totals_.since(base_)) {
      return Error{ErrorCode::kInUse, file_.path() +
                                          ": holds totals that can't be; move the file away and "
                                          "start again"};
    }
  }
  if (route_ > kMostRecords || event_consumed > kMostRecords)
    return bad("consumed positions that can't be");
  // Requests that began before the events that are still in the ring.
  for (const RequestEvent& request : requests_in_table(map, event_consumed)) {
    join_.add_request(request);
    order_.take_request(request.request);
  }

  if (!file_.position()) return start_late(event_consumed);
  const TracePosition& position = *file_.position();
  events_written_ = position.last_event ? *position.last_event + 1 : 0;
  const bool filtering = count_layers(filter_) < MOETRACE_MAX_LAYERS;
  if (position.next_seq < route_) {
    // Slots that were consumed without a line: left out on purpose, or the file has lost its end
    // since.
    if (!filtering) {
      return Error{ErrorCode::kInUse,
                   file_.path() +
                       ": ends before what was already written to it; it was cut, move it "
                       "away and start again"};
    }
    if (route_ - position.next_seq > totals_.open())
      return bad("a consumed position after the last announced row");
    totals_.filtered += route_ - position.next_seq;
  } else {
    route_ = position.next_seq;
  }
  if (beyond_ring(route_)) return bad("its trace file is ahead of it");
  if (auto error = apply_written_events()) return error;
  if (position.last_step) order_.take_step(*position.last_step);
  // Which of them were selected so far is not looked up again.
  allowed_layers_ = map.header().moe_layers;
  return std::nullopt;
}

// Events below events_written_ have their line.
std::optional<Error> SegmentDrain::apply_written_events() {
  while (events_.position() < events_written_) {
    const auto event = next_event();
    if (!event) return event.error();
    if (!*event) break;
    apply_event(**event);
  }
  // Some of the last one's records may have been seen before.
  step_left_ = std::min(step_left_, totals_.open());
  return std::nullopt;
}

std::optional<Error> SegmentDrain::start_late(std::uint64_t event_consumed) {
  const SegmentMap& map = segment_.map();
  out_.append(meta_);
  mark(false, 0, std::nullopt);
  const auto ledger = map.ledger().read();
  if (!ledger) {
    if (route_ != 0 || event_consumed != 0) return bad("consumed positions without a ledger");
    return std::nullopt;
  }
  // {route, event, attempted, filtered, dropped, event_lost, unclaimed}, as in moetrace_ledger.
  const auto& words = ledger->payload;
  if (words[0] < route_ || words[0] - route_ > map.header().route_slots ||
      words[1] < event_consumed || words[1] - event_consumed > map.header().event_slots ||
      words[3] > words[0]) {
    return bad("a ledger that does not fit the consumed positions");
  }
  if (!Totals{words[2], words[0] - words[3], words[3], words[4], words[5], 0, words[6]}.possible())
    return bad("a ledger of totals that can't be");
  route_ = words[0];
  events_written_ = words[1];
  totals_.attempted = words[2];
  totals_.filtered = words[3];
  totals_.delivered = route_ - words[3];
  totals_.hook_dropped = words[4];
  totals_.event_lost = words[5];
  totals_.unclaimed = words[6];
  base_ = totals_;
  if (auto error = apply_written_events()) return error;
  allowed_layers_ = map.header().moe_layers;
  std::optional<std::uint64_t> step;
  if (totals_.open() > 0 && join_.step()) step = join_.step()->step;
  const std::size_t begin = out_.size();
  append_base(out_, totals_, route_, events_written_, step);
  mark(false, begin, std::nullopt);
  for (const RequestEvent& request : join_.live_requests()) {
    const std::size_t line = out_.size();
    append_request(out_, request, std::nullopt);
    mark(false, line, std::nullopt);
  }
  return std::nullopt;
}

// ---- one pass

Result<SegmentDrain::State> SegmentDrain::pass() {
  if (!out_.empty() && !flush()) return State::kBlocked;
  if (bad_) return *bad_;
  if (finished_) {
    left_behind_ = segment_.unlink();
    return State::kEnded;
  }
  auto state = read();
  if (state && !totals_.possible()) state = bad("more records than it announced");
  // Zeros may have been read since, and nothing of them has left out_.
  if (!segment_.intact()) state = cut();
  if (!state) end_bad(state.error());
  if (state && *state == State::kIdle) return state;
  if (!flush()) return State::kBlocked;
  if (bad_) return *bad_;
  return State::kBusy;
}

Result<SegmentDrain::State> SegmentDrain::read() {
  const SegmentMap& map = segment_.map();
  const bool gone = producer_gone();
  // In this order: a route that is valid has its step's events behind it, and so has a step that a
  // snapshot calls over.
  const std::uint64_t end = final_end_ ? std::min(route_ + kSlotsAPass, *final_end_)
                                       : valid_routes_end(map, routes_, route_, kSlotsAPass);
  const auto snapshot = map.snapshots().read();
  // A producer reserves no slot more than a ring after the consumed position.
  if (beyond_ring(end) || (snapshot && beyond_ring(snapshot->payload[1])) ||
      beyond_ring(shared_word(&map.state()->published.routes))) {
    return bad("routes more than a ring after the consumed position");
  }
  event_lost_seen_ = shared_word(&map.state()->host.event_lost);
  if (auto error = read_events()) return *error;
  events_left_ = kEventsAPass;

  const std::uint64_t route_before = route_;
  const std::uint64_t events_before = events_entered_;
  if (auto error = write_routes(end)) return *error;
  // payload: {steps_done, claimed, dropped}
  if (snapshot && route_ >= snapshot->payload[1] && !events_behind_) {
    if (auto error = settle(*snapshot)) return *error;
  }
  const bool moved =
      route_ != route_before || events_entered_ != events_before || events_behind_ || !out_.empty();
  if (moved) {
    last_new_ = Clock::now();
    scanned_.reset();
  }

  if (gone && !moved) {
    if (!final_end_) {
      const bool gpu = map.header().claimer == MOETRACE_CLAIMER_GPU && !closed_;
      if (gpu && Clock::now() - last_new_ < kGpuAfterlife) return State::kIdle;
      if (!find_final_end(snapshot)) return State::kBusy;
    }
    if (route_ == *final_end_) {
      while (!pending_.empty() && events_left_ > 0) write_next_event();
      if (!pending_.empty()) return State::kBusy;
      if (auto error = finish(snapshot ? snapshot->payload[2] : totals_.hook_dropped))
        return *error;
    }
  }
  // Also what left no line (filtered rows, the end of a step) must be given back, or the producer
  // would wait for ever.
  const bool release = route_ != routes_.published() || releasable_events() != events_.published();
  return out_.empty() && !release && !final_end_ && !events_behind_ ? State::kIdle : State::kBusy;
}

bool SegmentDrain::beyond_ring(std::uint64_t route) const {
  return route > routes_.published() &&
         route - routes_.published() > segment_.map().header().route_slots;
}

// Valid slots behind a hole are delivered, and so is nothing else: looks at the whole ring once,
// some of it in each pass. What a GPU did not publish may be half there. False: go on in the next
// pass.
bool SegmentDrain::find_final_end(
    const std::optional<AlternatingLines<MappedLines>::Line>& snapshot) {
  const SegmentMap& map = segment_.map();
  const std::uint64_t lap = routes_.published() + map.header().route_slots;
  if (!scanned_) scanned_ = scan_end_ = route_;
  const std::uint64_t stop = std::min(*scanned_ + kScannedSlotsAPass, lap);
  for (std::uint64_t slot = *scanned_; slot < stop; ++slot) {
    if (valid_routes_end(map, routes_, slot, 1) > slot) scan_end_ = slot + 1;
  }
  scanned_ = stop;
  if (stop < lap) return false;
  final_end_ = snapshot ? std::max(scan_end_, snapshot->payload[1]) : scan_end_;
  return true;
}

// The spans of a step that is under way are needed again by whoever comes after us.
std::uint64_t SegmentDrain::releasable_events() const {
  return join_.step() && !step_over_ ? step_event_ : events_entered_;
}

bool SegmentDrain::producer_gone() {
  if (gone_) return true;
  const bool closed = shared_word(&segment_.map().state()->host.closed) != 0;
  const auto now = Clock::now();
  if (!closed && now - last_probe_ < kProbeEvery) return false;
  last_probe_ = now;
  if (segment_.producer_alive()) return false;
  // Read again: it may have closed between the two looks.
  closed_ = shared_word(&segment_.map().state()->host.closed) != 0;
  gone_ = true;
  return true;
}

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
    events_behind_ = event->has_value();
    if (!events_behind_) return std::nullopt;
    pending_.push_back(std::move(**event));
  }
  return std::nullopt;
}

// ---- routes

std::optional<Error> SegmentDrain::write_routes(std::uint64_t end) {
  for (; route_ < end; ++route_) {
    const auto step_low = routes_.upper_at(route_);
    if (!step_low) {
      write_hole(route_);
      continue;
    }
    std::optional<Error> wrong;
    const Entered entered = enter_step(*step_low);
    if (entered == Entered::kLater) break;
    if (entered == Entered::kYes) {
      wrong = write_route(route_);
    } else {
      wrong = bad("a route of a step that was not announced");
    }
    if (wrong) {
      if (!final_end_) return wrong;
      write_hole(route_);  // the last words of a dying producer
    }
  }
  return settle_holes();
}

std::optional<Error> SegmentDrain::write_route(std::uint64_t position) {
  const moetrace_ring_header& header = segment_.map().header();
  const std::byte* slot = routes_.memory().slot(position);
  moetrace_route_head head;
  std::memcpy(&head, slot, sizeof head);
  if (auto error = check_place(head)) return error;
  if (hole_count_ > 0) {
    if (auto error = settle_holes()) return error;
  }
  if (!has_layer(filter_, head.layer)) {
    ++totals_.filtered;
    return std::nullopt;
  }
  std::uint16_t ids[MOETRACE_MAX_TOP_K];
  float weights[MOETRACE_MAX_TOP_K];
  const std::size_t width = header.route_stride / 8;
  std::memcpy(ids, slot + sizeof head, header.top_k * sizeof *ids);
  std::memcpy(weights, slot + sizeof head + width * sizeof *ids, header.top_k * sizeof *weights);
  const StepJoin::Place place = join_.place(head.row);
  const std::size_t begin = out_.size();
  text_.append(out_, *place.origin, place.token_idx, head.layer, ids, weights, position);
  ++totals_.delivered;
  mark(true, begin, position);
  return std::nullopt;
}

void SegmentDrain::write_hole(std::uint64_t position) {
  if (hole_count_++ == 0) hole_first_ = position;
}

// As many as the announced rows explain; the others are of a step whose line comes next.
void SegmentDrain::flush_hole() {
  const std::uint64_t count = std::min(hole_count_, totals_.open());
  if (count == 0) return;
  const std::size_t begin = out_.size();
  append_torn(out_, hole_first_, count);
  totals_.holes += count;
  step_left_ = std::min(step_left_, totals_.open());
  mark(false, begin, std::nullopt);
  hole_first_ += count;
  hole_count_ -= count;
}

std::optional<Error> SegmentDrain::settle_holes() {
  flush_hole();
  while (hole_count_ > 0 && !pending_.empty()) {
    write_next_event();
    flush_hole();
  }
  if (hole_count_ > 0) return bad("more reserved slots than announced rows");
  return std::nullopt;
}

// Every hook fills the slots of a step layer by layer, and those of a layer row by row.
std::optional<Error> SegmentDrain::check_place(const moetrace_route_head& head) {
  const std::uint64_t place = std::uint64_t{head.layer} << 32 | head.row;
  if (step_left_ == 0) return bad("a route of a step that is over");
  if (place < next_place_) {
    return bad("a route of layer " + std::to_string(head.layer) + ", row " +
               std::to_string(head.row) + " after those that follow it");
  }
  if (head.row >= join_.step()->rows) return bad("a route of row " + std::to_string(head.row));
  if (head.layer != layer_) {
    if (!has_layer(allowed_layers_, head.layer))
      return bad("a route of layer " + std::to_string(head.layer) + ", which was not selected");
    if (layers_seen_ == join_.step()->layers)
      return bad("a route of one layer more than its step announced");
    ++layers_seen_;
    layer_ = head.layer;
  }
  next_place_ = place + 1;
  --step_left_;
  return std::nullopt;
}

// Writes the events up to the step that this route belongs to.
SegmentDrain::Entered SegmentDrain::enter_step(std::uint32_t step_low) {
  // How far the route's step lies after `step`: the steps of a ring are less than 2^31 apart.
  const auto after = [&](const StepEvent& step) {
    return static_cast<std::int32_t>(step_low - static_cast<std::uint32_t>(step.step));
  };
  if (join_.step() && after(*join_.step()) == 0) return Entered::kYes;
  while (!pending_.empty()) {
    const auto* step = std::get_if<StepEvent>(&pending_.front().body);
    if (step != nullptr && after(*step) < 0) return Entered::kUnknown;
    if (events_left_ == 0) return Entered::kLater;
    const bool found = step != nullptr && after(*step) == 0;
    write_next_event();
    if (found) return Entered::kYes;
  }
  return events_behind_ ? Entered::kLater : Entered::kUnknown;
}

// ---- events

void SegmentDrain::write_next_event() {
  write_event(pending_.front());
  pending_.pop_front();
  if (events_left_ > 0) --events_left_;
}

void SegmentDrain::write_event(const Event& event) {
  flush_hole();
  const std::size_t begin = out_.size();
  if (const auto* step = std::get_if<StepEvent>(&event.body)) {
    totals_.attempted += std::uint64_t{step->rows} * step->layers;
    // Holes that no earlier step explains are of this one.
    append_step(out_, *step, totals_, route_ - hole_count_, event.position);
  } else if (const auto* request = std::get_if<RequestEvent>(&event.body)) {
    append_request(out_, *request, event.position);
  } else if (const auto* request_end = std::get_if<RequestEndEvent>(&event.body)) {
    // Of a request that was forgotten, or was not in the table, the trace can't say more.
    if (const RequestEvent* live = join_.request(request_end->request))
      append_request_end(out_, *request_end, json_string(live->id), event.position);
  } else if (const auto* control = std::get_if<ControlEvent>(&event.body)) {
    append_control(out_, *control, event.position);
  }
  if (out_.size() > begin) mark(false, begin, std::nullopt);
  events_written_ = event.position + 1;
  apply_event(event);
}

void SegmentDrain::apply_event(const Event& event) {
  if (const auto* step = std::get_if<StepEvent>(&event.body)) {
    join_.enter(*step);
    text_.enter(step->step);
    step_event_ = event.position;
    step_over_ = false;
    step_left_ = std::uint64_t{step->rows} * step->layers;
    next_place_ = 0;
    layer_ = -1;
    layers_seen_ = 0;
  } else if (const auto* request = std::get_if<RequestEvent>(&event.body)) {
    join_.add_request(*request);
  } else if (const auto* end = std::get_if<RequestEndEvent>(&event.body)) {
    join_.end_request(end->request);
  } else if (const auto* control = std::get_if<ControlEvent>(&event.body)) {
    allowed_layers_ = unite(allowed_layers_, control->layers);
  }
  events_entered_ = event.position + event.slots;
}

// ---- the account

// Every slot that was claimed by the end of step steps_done - 1 has been read: these steps are
// over.
std::optional<Error> SegmentDrain::settle(const AlternatingLines<MappedLines>::Line& snapshot) {
  const std::uint64_t steps_done = snapshot.payload[0];
  const auto step_of = [](const Event& event) { return std::get_if<StepEvent>(&event.body); };
  while (!pending_.empty()) {
    const StepEvent* step = step_of(pending_.front());
    if (step != nullptr && step->step >= steps_done) break;
    // What follows a step that is under way waits for it.
    if (join_.step() && join_.step()->step >= steps_done) break;
    if (events_left_ == 0) return std::nullopt;
    write_next_event();
  }
  if (join_.step() && join_.step()->step >= steps_done) return std::nullopt;
  step_over_ = true;
  step_left_ = 0;
  if (auto error = settle_losses(snapshot.payload[2])) return error;
  settle_missing();
  return std::nullopt;
}

// What the steps that are over announced and nobody has seen.
void SegmentDrain::settle_missing() {
  const std::uint64_t missing = totals_.open();
  if (missing == 0) return;
  totals_.unclaimed += missing;
  const std::size_t begin = out_.size();
  append_torn(out_, std::nullopt, missing);
  mark(false, begin, std::nullopt);
}

std::optional<Error> SegmentDrain::settle_losses(std::uint64_t hook_dropped) {
  if (hook_dropped < totals_.hook_dropped || event_lost_seen_ < totals_.event_lost)
    return bad("a counter that went back");
  if (event_lost_seen_ > kMostRecords) return bad("more lost records than a trace can have");
  const std::optional<std::uint64_t> after = route_ > 0 ? std::optional(route_ - 1) : std::nullopt;
  if (const std::uint64_t lost = event_lost_seen_ - totals_.event_lost; lost > 0) {
    totals_.event_lost += lost;
    totals_.attempted += lost;
    const std::size_t begin = out_.size();
    append_loss(out_, lost, totals_, "event_ring_full", after);
    mark(false, begin, std::nullopt);
  }
  if (const std::uint64_t lost = hook_dropped - totals_.hook_dropped; lost > 0) {
    if (lost > totals_.open()) return bad("more drops than announced rows");
    totals_.hook_dropped += lost;
    const std::size_t begin = out_.size();
    append_loss(out_, lost, totals_, "ring_full", after);
    mark(false, begin, std::nullopt);
  }
  return std::nullopt;
}

// The producer is gone, every slot is accounted for, and every event has its line.
std::optional<Error> SegmentDrain::finish(std::uint64_t hook_dropped) {
  if (auto error = settle_losses(hook_dropped)) return error;
  settle_missing();
  return write_end(closed_ ? "closed" : "producer died", read_cost(segment_.map()));
}

std::optional<Error> SegmentDrain::write_end(std::string_view status,
                                             const std::optional<Cost>& cost) {
  const auto in_file = totals_.since(base_);
  if (!in_file) return bad("totals that went back");
  const std::size_t begin = out_.size();
  end_ = TraceEnd{*in_file, status};
  append_end(out_, *in_file, status, cost);
  mark(false, begin, std::nullopt);
  finished_ = true;
  return std::nullopt;
}

// What the segment says can't be. The trace ends with what is known: what was announced and is not
// there is torn. Nothing of out_ is in the file yet.
void SegmentDrain::end_bad(const Error& why) {
  // Lines that this pass has checked stay, unless zeros or totals that can't be are among them.
  if (!begun_ || !totals_.possible() || !totals_.since(base_) || !segment_.intact()) {
    out_.clear();
    batch_.runs.clear();
    totals_ = in_file_;
    if (!begun_) base_ = in_file_;
  }
  if (!begun_) {
    out_.append(meta_);
    mark(false, 0, std::nullopt);
  }
  settle_missing();
  // Its cost is not to be believed, either.
  write_end(kBadSegmentStatus, std::nullopt);
  bad_ = why;
}

std::string SegmentDrain::take_warning() {
  if (forgetting_said_ || join_.forgotten() == 0) return {};
  forgetting_said_ = true;
  return segment_.name().ring_file() +
         ": too many requests never end; the oldest are forgotten, and their rows have no req_id; "
         "let the engine end its requests";
}

// ---- out

void SegmentDrain::mark(bool route, std::size_t begin, std::optional<std::uint64_t> seq) {
  auto& runs = batch_.runs;
  if (runs.empty() || runs.back().route != route) runs.push_back({route, begin, begin, seq, 0, {}});
  runs.back().end = out_.size();
  runs.back().totals = totals_;
  ++runs.back().count;
}

// Lines into the file, then to the subscribers, then the ledger, then the positions: whoever dies
// in between has lost nothing and repeats nothing, because the file itself says how far it goes.
bool SegmentDrain::flush() {
  if (!file_.append(out_.view())) return false;
  if (!out_.empty()) {
    batch_.text = out_.view();
    publish_(batch_);
    out_.clear();
    batch_.runs.clear();
  }
  begun_ = true;
  in_file_ = totals_;
  if (finished_) file_.sync();
  if (bad_) return true;  // the segment is left as it is
  segment_.map().ledger().write(++ledger_number_,
                                {route_, events_entered_, totals_.attempted, totals_.filtered,
                                 totals_.hook_dropped, totals_.event_lost, totals_.unclaimed});
  routes_.publish(route_);
  events_.publish(releasable_events());
  return true;
}

}  // namespace moetrace
