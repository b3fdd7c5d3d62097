#include "daemon/collector/segment_drain.hpp"

#include <algorithm>

#include "shm/snapshot.hpp"

namespace moetrace {
namespace {

// Route slots a pass: about 200 kB of text. More would leave the cache; less would not be worth a
// system call. With encoders: enough for all of them.
constexpr std::uint64_t kSlotsAPass = 1024;
constexpr std::uint64_t kSharedSlotsAPass = 2048;
// The live requests may take as much memory as their segment, and at least this much.
constexpr std::uint64_t kLeastRequestBytes = 1 << 20;
// A GPU may write for a moment after its process has died.
constexpr auto kGpuAfterlife = std::chrono::milliseconds(200);
// Check this often whether the file of an idle trace is still there. A busy trace checks with each
// write.
constexpr auto kLookEvery = std::chrono::milliseconds(250);

std::uint64_t shared_word(std::uint64_t* word) {
  // acquire: synchronizes with the release stores of the producer's counters and of an earlier
  // collector's positions.
  return SharedWord(word).load(std::memory_order_acquire);
}

}  // namespace

Result<std::unique_ptr<SegmentDrain>> SegmentDrain::attach(CollectorSegment segment,
                                                           TracePlace place, DrainSettings settings,
                                                           Publish publish) {
  std::unique_ptr<SegmentDrain> drain(new SegmentDrain(std::move(segment), std::move(place.file),
                                                       std::move(settings), std::move(publish)));
  auto error = drain->start(place.part, place.position);
  if (!drain->segment_.intact()) error = drain->cut();
  if (!error) return drain;
  // The passes write the end line, unless the file has one.
  if (error->code != ErrorCode::kBadSegment || drain->finished_) return *error;
  drain->begin_bad_end(*error);
  return drain;
}

SegmentDrain::SegmentDrain(CollectorSegment segment, TraceFile file, DrainSettings settings,
                           Publish publish)
    : segment_(std::move(segment)),
      file_(std::move(file)),
      settings_(std::move(settings)),
      publish_(std::move(publish)),
      meta_(file_.meta()),
      routes_(segment_.map().route_ring(), segment_.map().header().route_slots,
              shared_word(&segment_.map().ctl()->route_consumed)),
      route_(routes_.published()),
      ring_watch_(segment_.map()),
      events_(segment_.map(), shared_word(&segment_.map().ctl()->event_consumed)),
      order_(segment_.map().header()),
      allowed_layers_(segment_.map().header().layers_logged),
      join_(std::max(segment_.map().header().ring_bytes, kLeastRequestBytes)),
      text_(segment_.map().layers()),
      last_new_(Clock::now()),
      live_(segment_.map().header().top_k, segment_.map().header().num_experts,
            segment_.name().trace_id),
      block_(std::make_unique<LineBlock>(text_, segment_.map(), routes_.memory())),
      encoder_(settings_.compression) {
  if (settings_.encoders == nullptr) settings_.encoders = &alone_;
}

Error SegmentDrain::bad(const std::string& why) const {
  return {ErrorCode::kBadSegment,
          segment_.name().ring_file() + ": " + why +
              "; it is left alone, remove its two files when its producer has ended"};
}

Error SegmentDrain::cut() const {
  return bad("one of its files was cut while it was in use");
}

Result<SegmentDrain::State> SegmentDrain::pass() {
  if (file_lost_) return State::kFileLost;
  if (writing_) {
    if (const State state = flush(); state != State::kBusy) {
      publish_live_rows();
      return state;
    }
  }
  if (next_file_) {
    change_file();
    return flush();
  }
  if (bad_ && !finished_) {
    // The segment's cost can't be trusted, either.
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
  live_.want(settings_.live_rows_wanted && settings_.live_rows_wanted(), totals_.next_seq());
  auto state = read();
  if (state && !totals_.possible()) state = bad("more records than it announced");
  // A page of a cut file reads as zeros. Lines made from them are still in out_ alone.
  if (!segment_.intact()) state = cut();
  if (!state) {
    begin_bad_end(state.error());
    publish_live_rows();
    return flush();
  }
  publish_live_rows();
  remember_checked();
  if (*state == State::kBusy || has_waiting()) {
    if (write_is_due()) return flush();
  } else if (outgrown_) {
    return State::kOutgrown;
  }
  if (*state == State::kIdle) {
    const auto now = Clock::now();
    if (now - last_look_ < kLookEvery) return state;
    last_look_ = now;
    return file_.state() == TraceFile::State::kWhole ? state : lose_file();
  }
  return state;
}

Result<SegmentDrain::State> SegmentDrain::read() {
  const SegmentMap& map = segment_.map();
  const bool gone = producer_gone();
  // Keep this order: routes, snapshot, events. The producer commits a step's events before its
  // routes and before a snapshot that counts the step as over, so the events read last are
  // complete.
  const std::uint64_t most =
      !rows_ && settings_.encoders->threads() > 1 ? kSharedSlotsAPass : kSlotsAPass;
  const std::uint64_t end = final_end_ ? std::min(route_ + most, *final_end_)
                                       : valid_routes_end(map, routes_, route_, most);
  const auto snapshot = read_snapshot(map);
  // A producer never reserves a slot more than one ring after the consumed position.
  const std::uint64_t published = shared_word(&map.state()->published.routes);
  if (beyond_ring(end) || (snapshot && beyond_ring(snapshot->claimed)) || beyond_ring(published)) {
    return bad("routes more than a ring after the consumed position");
  }
  ring_watch_.look(map, routes_, std::max({end, snapshot ? snapshot->claimed : 0, published}),
                   snapshot ? snapshot->dropped : 0);
  event_lost_seen_ = shared_word(&map.state()->host.event_lost);
  if (auto error = read_events()) return *error;
  events_left_ = kEventsAPass;

  const std::uint64_t route_before = route_;
  const std::uint64_t events_before = events_entered_;
  const std::size_t lines_before = out_.size();
  if (auto error = write_routes(end)) return *error;
  if (snapshot && route_ >= snapshot->claimed && !more_events_) {
    if (auto error = settle(*snapshot)) return *error;
  }
  const bool moved = route_ != route_before || events_entered_ != events_before || more_events_ ||
                     out_.size() != lines_before;
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
      if (auto error = finish(snapshot ? snapshot->dropped : totals_.hook_dropped())) return *error;
    }
  }
  // Release slots that made no line, too (filtered rows, the end of a step): otherwise the ring
  // would stay full.
  const bool release = route_ != routes_.published() || releasable_events() != events_.published();
  const bool busy =
      moved || final_end_ || more_events_ || (release && !(rows_ && has_waiting())) || hurry_;
  return busy ? State::kBusy : State::kIdle;
}

bool SegmentDrain::beyond_ring(std::uint64_t route) const {
  return route > routes_.published() &&
         route - routes_.published() > segment_.map().header().route_slots;
}

std::string SegmentDrain::take_warning() {
  if (std::string failure = unsaid_sync_failure(); !failure.empty()) return failure;
  if (std::string full =
          ring_watch_.take_warning(segment_.map(), segment_.name().trace_id, !file_.rows());
      !full.empty())
    return full;
  if (forgetting_said_ || join_.forgotten() == 0) return {};
  forgetting_said_ = true;
  return segment_.name().ring_file() +
         ": too many requests never end; their oldest ones are forgotten, and rows of those have "
         "no req_id; let the engine end its requests";
}

}  // namespace moetrace
