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
  const auto error = drain->start(place.part, place.position);
  if (!drain->segment_.intact()) return drain->cut();
  if (error) return *error;
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
  if (next_file_) return change_file();
  if (finished_) {
    if (file_.state() != TraceFile::State::kWhole) return lose_file();
    if (!file_.sync()) return State::kBlocked;
    segment_.unlink();
    return State::kEnded;
  }
  const auto state = read();
  // Zeros may have been read since, and nothing of them has left out_.
  if (!segment_.intact()) return cut();
  if (!state) return state;
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
  const auto snapshot = map.snapshots().read();
  event_lost_seen_ = shared_word(&map.state()->host.event_lost);
  if (auto error = read_events()) return *error;

  const std::uint64_t route_before = route_;
  const std::uint64_t events_before = events_entered_;
  if (auto error = write_routes(end)) return *error;
  // payload: {steps_done, claimed, dropped}
  if (snapshot && route_ >= snapshot->payload[1]) {
    if (auto error = settle(*snapshot)) return *error;
  }
  const bool moved = route_ != route_before || events_entered_ != events_before || !out_.empty();
  if (moved) last_new_ = Clock::now();

  if (gone && !moved) {
    if (!final_end_) {
      const bool gpu = map.header().claimer == MOETRACE_CLAIMER_GPU && !closed_;
      if (gpu && Clock::now() - last_new_ < kGpuAfterlife) return State::kIdle;
      // Valid slots behind a hole are delivered, and so is nothing else: look at the whole ring
      // once. What a GPU did not publish may be half there.
      std::uint64_t last = route_;
      const std::uint64_t lap = routes_.published() + map.header().route_slots;
      for (std::uint64_t slot = route_; slot < lap; ++slot) {
        if (valid_routes_end(map, routes_, slot, 1) > slot) last = slot + 1;
      }
      if (snapshot) last = std::max(last, std::min(snapshot->payload[1], lap));
      final_end_ = last;
    }
    if (route_ == *final_end_) {
      if (auto error = finish(snapshot ? snapshot->payload[2] : totals_.hook_dropped))
        return *error;
    }
  }
  // Also what left no line (filtered rows, the end of a step) must be given back, or the producer
  // would wait for ever.
  const bool release = route_ != routes_.published() || releasable_events() != events_.published();
  return out_.empty() && !release && !final_end_ ? State::kIdle : State::kBusy;
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

std::optional<Error> SegmentDrain::read_events() {
  while (true) {
    auto event = events_.next();
    if (!event) return bad(event.error().message);
    if (!*event) return std::nullopt;
    pending_.push_back(std::move(**event));
  }
}

// ---- routes

std::optional<Error> SegmentDrain::write_routes(std::uint64_t end) {
  for (; route_ < end; ++route_) {
    const auto step_low = routes_.upper_at(route_);
    if (!step_low) {
      write_hole(route_);
      continue;
    }
    if (auto error = write_route(route_, *step_low)) {
      if (!final_end_) return error;
      write_hole(route_);  // the last words of a dying producer
    }
  }
  flush_hole();
  return std::nullopt;
}

std::optional<Error> SegmentDrain::write_route(std::uint64_t position, std::uint32_t step_low) {
  const moetrace_ring_header& header = segment_.map().header();
  const std::byte* slot = routes_.memory().slot(position);
  moetrace_route_head head;
  std::memcpy(&head, slot, sizeof head);
  if (!enter_step(step_low)) return bad("a route of a step that nobody announced");
  if (head.layer >= header.num_layers) return bad("a route of layer " + std::to_string(head.layer));
  if (head.row >= join_.step()->rows) return bad("a route of row " + std::to_string(head.row));
  flush_hole();
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

void SegmentDrain::flush_hole() {
  if (hole_count_ == 0) return;
  const std::size_t begin = out_.size();
  append_torn(out_, hole_first_, hole_count_);
  totals_.holes += hole_count_;
  mark(false, begin, std::nullopt);
  hole_count_ = 0;
}

// Writes the events up to the step that this route belongs to.
bool SegmentDrain::enter_step(std::uint32_t step_low) {
  const auto is_it = [&](const StepEvent& step) {
    return static_cast<std::uint32_t>(step.step) == step_low;
  };
  if (join_.step() && is_it(*join_.step())) return true;
  const auto due = std::find_if(pending_.begin(), pending_.end(), [&](const Event& event) {
    const auto* step = std::get_if<StepEvent>(&event.body);
    return step != nullptr && is_it(*step);
  });
  if (due == pending_.end()) return false;
  const auto count = due - pending_.begin() + 1;
  for (std::ptrdiff_t n = 0; n < count; ++n) {
    write_event(pending_.front());
    pending_.pop_front();
  }
  return true;
}

// ---- events

void SegmentDrain::write_event(const Event& event) {
  flush_hole();
  const std::size_t begin = out_.size();
  if (const auto* step = std::get_if<StepEvent>(&event.body)) {
    totals_.attempted += std::uint64_t{step->rows} * step->layers;
    append_step(out_, *step, totals_, route_, event.position);
  } else if (const auto* request = std::get_if<RequestEvent>(&event.body)) {
    append_request(out_, *request, event.position);
  } else if (const auto* request_end = std::get_if<RequestEndEvent>(&event.body)) {
    append_request_end(out_, *request_end, join_.json_id(request_end->request), event.position);
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
  } else if (const auto* request = std::get_if<RequestEvent>(&event.body)) {
    join_.add_request(*request, event.position);
  } else if (const auto* end = std::get_if<RequestEndEvent>(&event.body)) {
    join_.end_request(end->request);
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
    write_event(pending_.front());
    pending_.pop_front();
  }
  if (join_.step() && join_.step()->step >= steps_done) return std::nullopt;
  step_over_ = true;
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

// The producer is gone, and every slot is accounted for.
std::optional<Error> SegmentDrain::finish(std::uint64_t hook_dropped) {
  for (; !pending_.empty(); pending_.pop_front()) write_event(pending_.front());
  if (auto error = settle_losses(hook_dropped)) return error;
  settle_missing();
  // The end line is written alone, so that it can be replaced should its file get lost.
  if (!out_.empty()) return std::nullopt;
  const std::size_t begin = out_.size();
  end_ = TraceEnd{totals_.since(known_from_), closed_ ? kClosed : kProducerDied};
  append_end(out_, totals_.since(base_), end_->status, read_cost(segment_.map()));
  mark(false, begin, std::nullopt);
  finished_ = true;
  return std::nullopt;
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
  if (!written) return State::kBlocked;
  if (!out_.empty()) {
    batch_.text = out_.view();
    publish_(batch_);
    out_.clear();
    batch_.runs.clear();
  }
  segment_.map().ledger().write(++ledger_number_,
                                {route_, events_entered_, totals_.attempted, totals_.filtered,
                                 totals_.hook_dropped, totals_.event_lost, totals_.unclaimed});
  routes_.publish(route_);
  events_.publish(releasable_events());
  commit();
  return State::kBusy;
}

}  // namespace moetrace
