#include "daemon/collector/collector.hpp"

#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "daemon/collector/stats_line.hpp"
#include "shm/abandoned_files.hpp"
#include "shm/ledger.hpp"

namespace moetrace {
namespace {

// Listing a directory takes about 20 us; the start of an engine takes seconds.
constexpr auto kDiscoverEvery = std::chrono::milliseconds(50);
constexpr auto kStatsEvery = std::chrono::seconds(1);
// Intervals between retries: from the first, doubled each time, up to the second.
constexpr auto kFirstRetry = std::chrono::milliseconds(100);
constexpr auto kLastRetry = std::chrono::seconds(10);
constexpr auto kReplaceEvery = std::chrono::seconds(1);
// Pauses: without a trace; with one, growing by the first one up to far less than its ring holds;
// and while rows flow to subscribers, who are promised them within a millisecond.
constexpr auto kPauseWithoutTrace = std::chrono::milliseconds(50);
constexpr auto kFirstPause = std::chrono::microseconds(500);
constexpr auto kPause = std::chrono::milliseconds(2);
constexpr auto kLivePause = std::chrono::microseconds(200);
// Rows flow as long as the last ones are not older: longer than a slow decode step.
constexpr auto kFlows = std::chrono::milliseconds(250);

TraceLabels labels_of(const moetrace_ring_header& header, const std::string& trace_id) {
  return {.trace_id = trace_id,
          .rank = header.rank,
          .model = header.model_id,
          .host = header.host,
          .created_realtime_ns = header.created_realtime_ns};
}

// How a part begins, with the present settings.
PartStart start_of_part(const SegmentMap& map, const std::string& trace_id,
                        const CollectorOptions& options) {
  const moetrace_ring_header& header = map.header();
  PartStart start;
  start.trace_id = trace_id;
  start.meta = meta_line(header, map.layers(), trace_id);
  start.named_by_number =
      options.max_file_size.bytes != 0 || options.max_age.seconds != 0 || options.keep.count != 0;
  if (options.rows == RowsPlace::kArrow)
    start.rows = RowsForm{header.top_k, header.num_experts, options.weights, false};
  return start;
}

}  // namespace

Collector::Collector(CollectorOptions options, Publisher publisher, Report report)
    : options_(std::move(options)),
      encoders_(options_.encoder_threads.threads()),
      publisher_(std::move(publisher)),
      report_(std::move(report)) {}

Collector::Trace::Trace(OutputNames names_, std::string id, std::uint64_t generation)
    : names(std::move(names_)) {
  channel.trace_id = std::move(id);
  channel.generation = generation;
}

bool Collector::round() {
  const auto now = Clock::now();
  if (now - discovered_ >= kDiscoverEvery) {
    discovered_ = now;
    discover();
    for (const std::string& failure : plots_.reap(false)) report_.say(failure);
  }
  const bool moved = drain_all();
  if (moved) moved_ = now;
  keep_total_size();
  if (now - stats_ >= kStatsEvery) {
    stats_ = now;
    for (auto& [id, trace] : traces_) publish_stats(trace);
    publish_written();
  }
  return moved;
}

std::chrono::microseconds Collector::pause_after(int rounds) const {
  if (traces_.empty()) return kPauseWithoutTrace;
  const bool wanted = publisher_.wants_routes() || publisher_.wants_rows();
  if (wanted && Clock::now() - moved_ < kFlows) return kLivePause;
  return std::min<std::chrono::microseconds>(rounds * kFirstPause, kPause);
}

void Collector::discover() {
  remove_abandoned(options_.directory, options_.session);
  const auto segments = list_segments(options_.directory, options_.session);
  if (!segments) {
    if (!directory_failed_) report_.say(segments.error().message);
    directory_failed_ = true;
    return;
  }
  directory_failed_ = false;
  std::erase_if(waiting_, [&](const auto& entry) {
    return std::none_of(segments->begin(), segments->end(),
                        [&](const SegmentName& name) { return name.trace_id == entry.first; });
  });
  std::erase_if(left_behind_, [&](const std::string& trace_id) {
    return std::none_of(segments->begin(), segments->end(),
                        [&](const SegmentName& name) { return name.trace_id == trace_id; });
  });
  const auto now = Clock::now();
  for (const SegmentName& name : *segments) {
    if (traces_.contains(name.trace_id) || quarantined_.contains(name.trace_id) ||
        left_behind_.contains(name.trace_id))
      continue;
    const auto waiting = waiting_.find(name.trace_id);
    if (waiting == waiting_.end() || waiting->second.again <= now) attach(name);
  }
}

void Collector::attach(const SegmentName& name) {
  auto segment =
      CollectorSegment::open(options_.directory, name, CollectorSegment::Access::kCollect);
  if (!segment) {
    const Error& error = segment.error();
    // Its collector has just removed it.
    if (error.code == ErrorCode::kNotFound) return;
    if (error.code == ErrorCode::kInUse) {
      // Another collector serves it. If that dies, we attach.
      if (served_elsewhere_.insert(name.trace_id).second) report_.say(error.message);
      return;
    }
    if (error.code == ErrorCode::kBadSegment || error.code == ErrorCode::kWrongVersion)
      return quarantine(name, error.message);
    return try_later(name, error.message);
  }
  served_elsewhere_.erase(name.trace_id);

  const OutputNames names(options_, labels_of(segment->map().header(), name.trace_id));
  moetrace_ctl* ctl = segment->map().ctl();
  const auto ledger = read_ledger(segment->map());
  // acquire: synchronizes with the release store of the collector that moved it.
  const Consumed consumed{SharedWord(&ctl->route_consumed).load(std::memory_order_acquire),
                          ledger ? ledger->filtered : 0};
  auto place = place_trace(names, start_of_part(segment->map(), name.trace_id, options_), consumed);
  if (!place) return try_later(name, place.error().message);
  if (!place->warning.empty()) report_.say(place->warning);
  waiting_.erase(name.trace_id);

  const SharedWord generation(&ctl->collector_generation);
  // relaxed: only the holder of the collector's lock writes these two; other processes only show
  // them.
  const std::uint64_t number = generation.load(std::memory_order_relaxed) + 1;
  generation.store(number, std::memory_order_relaxed);
  SharedWord(&ctl->collector_pid)
      .store(static_cast<std::uint64_t>(::getpid()), std::memory_order_relaxed);

  Trace& trace = traces_.try_emplace(name.trace_id, names, name.trace_id, number).first->second;
  auto drain = SegmentDrain::attach(
      std::move(*segment), std::move(*place),
      {.layers = options_.layers,
       .compression = options_.compression,
       .route_lines_wanted = [this] { return publisher_.wants_routes(); },
       .encoders = &encoders_,
       .live_rows_wanted = [this] { return publisher_.wants_rows(); },
       .publish_rows =
           [this, &trace](LiveMessage rows) {
             publisher_.publish_rows(trace.channel, std::move(rows));
           }},
      [this, &trace](const LineBatch& batch) { publisher_.publish(trace.channel, batch); });
  if (!drain) {
    traces_.erase(name.trace_id);
    return quarantine(name, drain.error().message);
  }
  trace.drain = std::move(*drain);
  note_earlier_parts(trace);
  resume_stop(trace);
  publisher_.begin(trace.channel, trace.drain->meta(), trace.drain->totals());
  report_.writes(trace.drain->file().path());
  say_begun(*trace.drain);
}

void Collector::try_later(const SegmentName& name, const std::string& why) {
  Waiting& waiting = waiting_[name.trace_id];
  if (waiting.why != why) report_.say(why);
  waiting.why = why;
  waiting.interval =
      std::clamp<std::chrono::milliseconds>(2 * waiting.interval, kFirstRetry, kLastRetry);
  waiting.again = Clock::now() + waiting.interval;
}

void Collector::say_begun(const SegmentDrain& drain) const {
  if (options_.prints_only_faults()) return;
  const moetrace_ring_header& header = drain.segment().map().header();
  // As JSON, so that a name with a line break stays on one line.
  const std::string model = *header.model_id == '\0' ? "unknown" : json_string(header.model_id);
  report_.say("trace " + drain.segment().name().trace_id +
              (drain.file().position() || drain.part() > 1 ? " continues" : " begins") +
              ": model " + model + ", pid " + std::to_string(header.producer_pid) + ", file " +
              drain.file().path());
}

void Collector::say_ended(const SegmentDrain& drain) const {
  if (options_.prints_only_faults()) return;
  std::string how = "its trace file was already complete";
  if (const auto& end = drain.end()) {
    const std::uint64_t lost = drain.lost_rows();
    how = std::string(end->status) + ", " + std::to_string(end->totals.delivered() - lost) +
          " delivered, " + std::to_string(end->totals.dropped()) + " dropped, " +
          std::to_string(end->totals.torn()) + " torn";
    if (lost > 0) how += ", " + std::to_string(lost) + " lost with a file that was removed or cut";
  }
  report_.say("trace " + drain.segment().name().trace_id + " has ended: " + how);
}

void Collector::quarantine(const SegmentName& name, const std::string& why) {
  waiting_.erase(name.trace_id);
  quarantined_.insert(name.trace_id);
  failed_ = true;
  ++ended_;
  report_.say(why);
}

bool Collector::drain_all() {
  bool moved = false;
  for (auto it = traces_.begin(); it != traces_.end();) {
    Trace& trace = it->second;
    const auto state = trace.drain->pass();
    if (!state) {
      const SegmentName name = trace.drain->segment().name();
      const std::string why = state.error().message;
      it = traces_.erase(it);
      quarantine(name, why);
      continue;
    }
    if (const std::string line = trace.drain->take_warning(); !line.empty()) report_.say(line);
    if (*state == SegmentDrain::State::kEnded) {
      end(trace);
      it = traces_.erase(it);
      continue;
    }
    moved = moved || *state == SegmentDrain::State::kBusy;
    if (*state == SegmentDrain::State::kFileLost) {
      replace_lost_file(trace);
    } else if (*state == SegmentDrain::State::kOutgrown) {
      begin_wide_part(trace);
    } else if (*state == SegmentDrain::State::kBlocked) {
      say_blocked(trace, trace.drain->why_blocked());
    } else {
      trace.blocked_by.clear();
      note_part(trace);
      begin_due_part(trace);
    }
    ++it;
  }
  return moved;
}

// Prints each reason once.
void Collector::say_blocked(Trace& trace, const std::string& why) {
  if (trace.blocked_by != why) report_.say(why);
  trace.blocked_by = why;
}

void Collector::hang_up(const CollectorOptions& options) {
  options_ = options;
  for (auto& [id, trace] : traces_) {
    trace.change_file = true;
    trace.old_parts_removed = false;
    trace.drain->write_waiting_rows();
    trace.drain->set_layers(options_.layers);
  }
  for (auto& [id, waiting] : waiting_) waiting.again = {};
  limit_look_ = {};
}

// Until it succeeds, the ring keeps the rows.
void Collector::begin_wide_part(Trace& trace) {
  const auto now = Clock::now();
  if (now < trace.replace) return;
  trace.replace = now + kReplaceEvery;
  const std::string why = change_file(trace);
  if (!why.empty())
    say_blocked(trace, why + "; a number of trace " + trace.channel.trace_id +
                           " needs a part with wide columns; the ring holds the rows meanwhile");
}

// "", or why no file can be made.
std::string Collector::change_file(Trace& trace) {
  SegmentDrain& drain = *trace.drain;
  PartStart start = part_start(drain);
  // A file with only its head needs no next part.
  if (drain.file().has_its_name() && !drain.has_lines() && start.rows == drain.file().rows())
    return {};
  auto next = next_file(trace.names, start);
  if (!next) return next.error().message;
  const std::string path = next->path();
  drain.go_on_in(std::move(*next));
  report_.writes(path);
  if (!options_.prints_only_faults())
    report_.say("trace " + trace.channel.trace_id + ": part " + std::to_string(drain.part() + 1) +
                " in " + path);
  return {};
}

void Collector::replace_lost_file(Trace& trace) {
  const auto now = Clock::now();
  if (now < trace.replace) return;
  trace.replace = now + kReplaceEvery;
  SegmentDrain& drain = *trace.drain;
  const std::string what = drain.file().path() +
                           ": was removed or cut by another program while trace " +
                           trace.channel.trace_id + " was written to it";
  const std::uint64_t lost_before = drain.lost_rows();
  if (!drain.go_on_in_emptied_file()) {
    // Rows that wait for their file keep their form.
    PartStart start = part_start(drain);
    start.rows = drain.file().rows();
    auto next = next_file(trace.names, start);
    if (!next) {
      say_blocked(trace, what + ", and no other file can be made: " + next.error().message);
      return;
    }
    drain.replace_file(std::move(*next));
  }
  const std::string path = drain.file().path();
  report_.writes(path);
  report_.say(what + ": " + std::to_string(drain.lost_rows() - lost_before) +
              " rows are lost with it; the trace continues in " + path + ", part " +
              std::to_string(drain.part()) + "; to rotate it, move it and send SIGHUP");
}

PartStart Collector::part_start(const SegmentDrain& drain) const {
  PartStart start = start_of_part(drain.segment().map(), drain.segment().name().trace_id, options_);
  start.part = drain.part() + 1;
  if (start.rows) start.rows->wide = drain.needs_wide_rows();
  return start;
}

void Collector::publish_stats(Trace& trace) {
  const auto stats =
      stats_line(trace.drain->segment().map(), trace.channel.trace_id, trace.drain->totals());
  if (!stats || stats->version == trace.stats_version) return;
  trace.stats_version = stats->version;
  publisher_.publish_stats(trace.channel, stats->line, trace.drain->totals());
}

void Collector::end(Trace& trace) {
  ++ended_;
  say_ended(*trace.drain);
  if (const std::string& why = trace.drain->left_behind(); !why.empty()) {
    left_behind_.insert(trace.channel.trace_id);
    report_.say(why);
  }
  publish_stats(trace);
  finished_files_.add(trace.drain->file().path());
  if (options_.plot_dir.empty()) return;
  const auto directory = std::filesystem::path(options_.plot_dir) / trace.channel.trace_id;
  const auto files = trace_files(trace.names, trace.channel.trace_id);
  if (!files) {
    report_.say("no pictures of trace " + trace.channel.trace_id + ": " + files.error().message);
    return;
  }
  std::string why;
  if (!plots_.start(*files, directory.string(), why)) report_.say(why);
}

void Collector::stop() {
  for (auto& [id, waiting] : waiting_) waiting.again = {};
  discover();
  // A live producer may write for ever: stop after a few passes more than a full ring needs.
  std::uint64_t rounds = 16;
  for (const auto& [id, trace] : traces_) {
    rounds = std::max(rounds, 16 + trace.drain->segment().map().header().route_slots / 256);
  }
  while (rounds-- > 0 && drain_all()) {
  }
  for (auto& [id, trace] : traces_) trace.drain->write_waiting_rows();
  drain_all();
  // Traces that have ended are still being synced.
  for (const auto& [id, trace] : traces_) failed_ = !trace.drain->wait_for_disk() || failed_;
  drain_all();
  for (const auto& [id, trace] : traces_) failed_ = failed_ || !trace.blocked_by.empty();
  failed_ = failed_ || !waiting_.empty();
  traces_.clear();
  for (const std::string& failure : plots_.reap(true)) report_.say(failure);
}

}  // namespace moetrace
