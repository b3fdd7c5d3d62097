#include "daemon/collector/segment_drain.hpp"

#include <algorithm>
#include <cstring>

#include "shm/layer_mask.hpp"
#include "shm/ledger.hpp"
#include "shm/snapshot.hpp"

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
// So soon an idle trace's file is found to be gone. A busy one's is looked at with each write.
constexpr auto kLookEvery = std::chrono::milliseconds(250);

std::uint64_t shared_word(std::uint64_t* word) {
  // acquire: pairs with the release stores of the producer's counters and of a former collector's
  // positions.
  return SharedWord(word).load(std::memory_order_acquire);
}

}  // namespace

Result<std::unique_ptr<SegmentDrain>> SegmentDrain::attach(CollectorSegment segment,
                                                           TracePlace place,
                                                           const moetrace_layer_mask& filter,
                                                           Publish publish) {
  std::unique_ptr<SegmentDrain> drain(
      new SegmentDrain(std::move(segment), std::move(place.file), filter, std::move(publish)));
  auto error = drain->start(place.part, place.position);
  if (!drain->segment_.intact()) error = drain->cut();
  if (!error) return drain;
  // Passes write the end, unless the file has one.
  if (error->code != ErrorCode::kBadSegment || drain->finished_) return *error;
  drain->begin_bad_end(*error);
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

// ---- one pass

Result<SegmentDrain::State> SegmentDrain::pass() {
  if (file_lost_) return State::kFileLost;
  if (!head_.empty() || !out_.empty()) {
    if (const State state = flush(); state != State::kBusy) return state;
  }
  if (next_file_) {
    change_file();
    return flush();
  }
  if (bad_ && !finished_) {
    // Its cost is not to be believed, either.
    write_end(kBadSegmentEnd, std::nullopt);
    return flush();
  }
  if (finished_) {
    if (file_.state() != TraceFile::State::kWhole) return lose_file();
    if (const State state = bring_to_disk(); state != State::kEnded) return state;
    if (bad_) return *bad_;
    left_behind_ = segment_.unlink();
    return State::kEnded;
  }
  sync_closed_parts();
  auto state = read();
  if (state && !totals_.possible()) state = bad("more records than it announced");
  // Zeros may have been read since, and nothing of them has left out_.
  if (!segment_.intact()) state = cut();
  if (!state) {
    begin_bad_end(state.error());
    return flush();
  }
  if (*state == State::kIdle) {
    const auto now = Clock::now();
    if (now - last_look_ < kLookEvery) return state;
    last_look_ = now;
    return file_.state() == TraceFile::State::kWhole ? state : lose_file();
  }
  return flush();
}

Result<SegmentDrain::State> SegmentDrain::read() {
  const SegmentMap& map = segment_.map();
  const bool gone = producer_gone();
  // In this order: a route that is valid has its step's events behind it, and so has a step that a
  // snapshot calls over.
  const std::uint64_t end = final_end_ ? std::min(route_ + kSlotsAPass, *final_end_)
                                       : valid_routes_end(map, routes_, route_, kSlotsAPass);
  const auto snapshot = read_snapshot(map);
  // A producer reserves no slot more than a ring after the consumed position.
  if (beyond_ring(end) || (snapshot && beyond_ring(snapshot->claimed)) ||
      beyond_ring(shared_word(&map.state()->published.routes))) {
    return bad("routes more than a ring after the consumed position");
  }
  event_lost_seen_ = shared_word(&map.state()->host.event_lost);
  if (auto error = read_events()) return *error;
  events_left_ = kEventsAPass;

  const std::uint64_t route_before = route_;
  const std::uint64_t events_before = events_entered_;
  if (auto error = write_routes(end)) return *error;
  if (snapshot && route_ >= snapshot->claimed && !events_behind_) {
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
      if (auto error = finish(snapshot ? snapshot->dropped : totals_.hook_dropped)) return *error;
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
bool SegmentDrain::find_final_end(const std::optional<moetrace_snapshot>& snapshot) {
  const SegmentMap& map = segment_.map();
  const std::uint64_t lap = routes_.published() + map.header().route_slots;
  if (!scanned_) scanned_ = scan_end_ = route_;
  const std::uint64_t stop = std::min(*scanned_ + kScannedSlotsAPass, lap);
  for (std::uint64_t slot = *scanned_; slot < stop; ++slot) {
    if (valid_routes_end(map, routes_, slot, 1) > slot) scan_end_ = slot + 1;
  }
  scanned_ = stop;
  if (stop < lap) return false;
  final_end_ = snapshot ? std::max(scan_end_, snapshot->claimed) : scan_end_;
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
    join_.add_request(*request, event.position);
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
std::optional<Error> SegmentDrain::settle(const moetrace_snapshot& snapshot) {
  const std::uint64_t steps_done = snapshot.steps_done;
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
  if (auto error = settle_losses(snapshot.dropped)) return error;
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
  // The end line is written alone, so that it can be replaced should its file get lost.
  if (out_.empty()) write_end(closed_ ? kClosed : kProducerDied, read_cost(segment_.map()));
  return std::nullopt;
}

void SegmentDrain::write_end(std::string_view status, const std::optional<Cost>& cost) {
  const std::size_t begin = out_.size();
  end_ = TraceEnd{totals_.since(known_from_), status};
  append_end(out_, totals_.since(base_), status, cost);
  mark(false, begin, std::nullopt);
  finished_ = true;
}

// What the segment says can't be. The trace ends with what is known: what was announced and is not
// there is torn. Nothing of out_ is in the file yet.
void SegmentDrain::begin_bad_end(const Error& why) {
  bad_ = why;
  route_ -= hole_count_;  // torn, but without numbers
  hole_count_ = 0;
  const bool is_new = file_.size() == 0 && head_.empty();
  // Lines that this pass has checked stay, unless zeros or totals that can't be are among them.
  if (is_new || !totals_.possible() || !totals_.follow(committed_.totals) || !segment_.intact()) {
    out_.clear();
    batch_.runs.clear();
    totals_ = committed_.totals;
    route_ = committed_.route;
    events_written_ = committed_.events;
  }
  if (is_new && part_ > 1) begin_part();
  if (is_new && part_ == 1) {
    base_ = known_from_ = totals_;
    out_.append(meta_);
    mark(false, 0, std::nullopt);
  }
  settle_missing();
}

std::string SegmentDrain::take_warning() {
  if (std::string failure = unsaid_sync_failure(); !failure.empty()) return failure;
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
SegmentDrain::State SegmentDrain::flush() {
  // What is in a file that another program has removed or cut is not delivered: it stays in out_.
  // Looked at before, because an emptied file can be gone on with, and after, because it counts.
  if (file_.state() != TraceFile::State::kWhole) return lose_file();
  const bool written = write_head() && file_.append(out_.view());
  const auto file = file_.state();
  if (file == TraceFile::State::kRemoved || (written && file != TraceFile::State::kWhole))
    return lose_file();
  if (!written) {
    why_blocked_ = file_.error();
    return State::kBlocked;
  }
  if (!out_.empty()) {
    batch_.text = out_.view();
    publish_(batch_);
    out_.clear();
    batch_.runs.clear();
  }
  if (!bad_) {  // else the segment is left as it is
    write_ledger(segment_.map(), {.number = ++ledger_number_,
                                  .route = route_,
                                  .event = events_entered_,
                                  .attempted = totals_.attempted,
                                  .filtered = totals_.filtered,
                                  .dropped = totals_.hook_dropped,
                                  .event_lost = totals_.event_lost,
                                  .unclaimed = totals_.unclaimed});
    routes_.publish(route_);
    events_.publish(releasable_events());
  }
  commit();
  return State::kBusy;
}

}  // namespace moetrace
