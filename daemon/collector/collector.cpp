#include "daemon/collector/collector.hpp"

#include <unistd.h>

#include <filesystem>

#include "daemon/collector/output_path.hpp"
#include "daemon/collector/stats_line.hpp"

namespace moetrace {
namespace {

using Clock = std::chrono::steady_clock;

// Listing a directory takes some 20 us; an engine's start takes seconds.
constexpr auto kDiscoverEvery = std::chrono::milliseconds(50);
constexpr auto kStatsEvery = std::chrono::seconds(1);

}  // namespace

Collector::Collector(CollectorOptions options, Publisher publisher,
                     std::function<void(const std::string&)> say)
    : options_(std::move(options)), publisher_(std::move(publisher)), say_(std::move(say)) {}

bool Collector::round() {
  const auto now = Clock::now();
  if (now - discovered_ >= kDiscoverEvery) {
    discovered_ = now;
    discover();
    for (const std::string& failure : plots_.reap(false)) say_(failure);
  }
  publisher_.take_subscriptions();
  for (auto& [id, trace] : traces_)
    publisher_.publish_meta_if_due(trace.channel, trace.drain->totals());
  const bool moved = drain_all();
  if (now - stats_ >= kStatsEvery) {
    stats_ = now;
    for (auto& [id, trace] : traces_) publish_stats(trace);
  }
  return moved;
}

void Collector::discover() {
  remove_abandoned(options_.directory, options_.session);
  const auto segments = list_segments(options_.directory, options_.session);
  if (!segments) {
    if (!directory_failed_) say_(segments.error().message);
    directory_failed_ = true;
    return;
  }
  directory_failed_ = false;
  std::set<std::string> left_behind;
  for (const SegmentName& name : *segments) {
    if (left_behind_.contains(name.trace_id)) {
      left_behind.insert(name.trace_id);
    } else if (!traces_.contains(name.trace_id) && !quarantined_.contains(name.trace_id)) {
      attach(name);
    }
  }
  left_behind_.swap(left_behind);  // without those that are gone
}

void Collector::attach(const SegmentName& name) {
  auto segment =
      CollectorSegment::open(options_.directory, name, CollectorSegment::Access::kCollect);
  if (!segment) {
    if (segment.error().code == ErrorCode::kNotFound) return;  // its collector has just removed it
    if (segment.error().code == ErrorCode::kInUse) {
      // Not ours for now; its collector may die, then it is.
      if (served_elsewhere_.insert(name.trace_id).second) say_(segment.error().message);
      return;
    }
    return quarantine(name, segment.error().message);
  }
  served_elsewhere_.erase(name.trace_id);

  Result<TraceFile> file = Error{ErrorCode::kInUse, ""};
  for (const std::string& path :
       output_candidates(options_, name.trace_id, segment->map().header().rank)) {
    file = TraceFile::open(path, name.trace_id);
    if (file || file.error().code != ErrorCode::kInUse) break;
  }
  if (!file) return quarantine(name, file.error().message);

  moetrace_ctl* ctl = segment->map().ctl();
  const SharedWord generation(&ctl->collector_generation);
  // relaxed: only we, who hold the collector's lock, write these two; others show them.
  const std::uint64_t number = generation.load(std::memory_order_relaxed) + 1;
  generation.store(number, std::memory_order_relaxed);
  SharedWord(&ctl->collector_pid)
      .store(static_cast<std::uint64_t>(::getpid()), std::memory_order_relaxed);

  Trace& trace = traces_[name.trace_id];
  trace.channel.trace_id = name.trace_id;
  trace.channel.generation = number;
  auto drain = SegmentDrain::attach(
      std::move(*segment), std::move(*file), options_.layers,
      [this, &trace](const Batch& batch) { publisher_.publish(trace.channel, batch); });
  if (!drain) {
    traces_.erase(name.trace_id);
    return quarantine(name, drain.error().message);
  }
  trace.drain = std::move(*drain);
  trace.channel.meta = trace.drain->meta();
  say_begun(*trace.drain);
}

void Collector::say_begun(const SegmentDrain& drain) const {
  if (options_.quiet) return;
  const moetrace_ring_header& header = drain.segment().map().header();
  // As JSON: a name with a line break in it is still one line here.
  const std::string model = *header.model_id == '\0' ? "unknown" : json_string(header.model_id);
  say_("trace " + drain.segment().name().trace_id +
       (drain.file().position() ? " goes on" : " begins") + ": model " + model + ", pid " +
       std::to_string(header.producer_pid) + ", file " + drain.file().path());
}

void Collector::say_ended(const SegmentDrain& drain) const {
  if (options_.quiet) return;
  std::string how = "its file was complete before";
  if (const auto& end = drain.end()) {
    how = std::string(end->status) + ", " + std::to_string(end->totals.delivered) + " delivered, " +
          std::to_string(end->totals.dropped()) + " dropped, " +
          std::to_string(end->totals.torn()) + " torn";
  }
  say_("trace " + drain.segment().name().trace_id + " has ended: " + how);
}

void Collector::quarantine(const SegmentName& name, const std::string& why) {
  quarantined_.insert(name.trace_id);
  failed_ = true;
  ++ended_;
  say_(why);
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
    if (const std::string line = trace.drain->take_warning(); !line.empty()) say_(line);
    const bool blocked = *state == SegmentDrain::State::kBlocked;
    if (blocked && !trace.blocked) say_(trace.drain->file().error());
    trace.blocked = blocked;
    moved = moved || *state == SegmentDrain::State::kBusy;
    if (*state == SegmentDrain::State::kEnded) {
      end(trace);
      it = traces_.erase(it);
      continue;
    }
    ++it;
  }
  return moved;
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
    say_(why);
  }
  publish_stats(trace);
  if (options_.plot_dir.empty()) return;
  const auto directory = std::filesystem::path(options_.plot_dir) / trace.channel.trace_id;
  std::string why;
  if (!plots_.start(trace.drain->file().path(), directory.string(), why)) say_(why);
}

void Collector::stop() {
  discover();
  // Producers that live may go on writing for ever: a few passes more than a full ring takes are
  // the end of it.
  std::uint64_t rounds = 16;
  for (const auto& [id, trace] : traces_) {
    rounds = std::max(rounds, 16 + trace.drain->segment().map().header().route_slots / 256);
  }
  while (rounds-- > 0 && drain_all()) {
  }
  for (const auto& [id, trace] : traces_) failed_ = failed_ || trace.blocked;
  traces_.clear();
  for (const std::string& failure : plots_.reap(true)) say_(failure);
}

}  // namespace moetrace
