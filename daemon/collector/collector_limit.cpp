// --max-total-size, and what status shows of the files.
#include <algorithm>
#include <utility>

#include "common/text.hpp"
#include "daemon/collector/collector.hpp"
#include "daemon/config/quantities.hpp"
#include "shm/control_words.hpp"
#include "shm/written.hpp"

namespace moetrace {
namespace {

// Once the limit is reached: how often to look for new room, and for recording that was started.
constexpr auto kLimitLookEvery = std::chrono::milliseconds(100);

// 1,234,567,890 bytes: "1.15 GiB".
std::string shown_bytes(std::uint64_t bytes) {
  const auto [unit, name] = bytes >= (std::uint64_t{1} << 30) ? std::pair(double{1 << 30}, " GiB")
                                                              : std::pair(double{1 << 20}, " MiB");
  return decimals(static_cast<double>(bytes) / unit, 2) + name;
}

}  // namespace

std::uint64_t Collector::total_bytes() const {
  std::uint64_t bytes = finished_files_.bytes();
  for (const auto& [id, trace] : traces_) bytes += trace.drain->part_bytes();
  return bytes;
}

std::uint64_t Collector::reserved_bytes() const {
  std::uint64_t bytes = 0;
  for (const auto& [id, trace] : traces_) bytes += bytes_to_come(*trace.drain);
  return bytes;
}

// Recording is off before the files have the limit: what the rings hold by then fits below it.
void Collector::keep_total_size() {
  const std::uint64_t limit = options_.max_total_size.bytes;
  if (traces_.empty()) return;
  const auto now = Clock::now();
  const bool was_over = over_limit_;
  if (was_over && now - limit_look_ < kLimitLookEvery) return;
  limit_look_ = now;
  const auto over = [&] { return limit != 0 && total_bytes() + reserved_bytes() >= limit; };
  over_limit_ = over();
  if (over_limit_) {
    finished_files_.look_again();
    over_limit_ = over();
  }
  if (!over_limit_) return forget_stops();
  std::size_t stopped = 0;
  std::size_t stay_off = 0;
  for (auto& [id, trace] : traces_) {
    const auto done = stop_recording(trace);
    stopped += done == Stopped::kNow ? 1 : 0;
    stay_off += done == Stopped::kBefore ? 1 : 0;
  }
  if (stopped + stay_off > 0) say_stopped(stopped, stay_off);
}

// A trace that an earlier collector may have stopped, and died before it read the event of that.
// The rows that this collector has still to write may bring the files to the limit again.
void Collector::resume_stop(Trace& trace) {
  const std::uint64_t limit = options_.max_total_size.bytes;
  if (limit == 0 || total_bytes() + 2 * reserved_bytes() < limit) return;
  const auto current = read_control(trace.drain->segment().map());
  if (current && !current->words.enabled) trace.drain->set_stop_reason(kMaxTotalSize);
}

// There is room: a trace that somebody has started again stops for another reason next time.
void Collector::forget_stops() {
  for (auto& [id, trace] : traces_) {
    if (!trace.stop_seen) continue;
    const auto current = read_control(trace.drain->segment().map());
    if (!current || !current->words.enabled) continue;
    trace.stop_seen = false;
    trace.drain->set_stop_reason({});
  }
}

Collector::Stopped Collector::stop_recording(Trace& trace) {
  const CollectorSegment& segment = trace.drain->segment();
  const auto current = read_control(segment.map());
  if (current && !current->words.enabled) {
    // Another collector stopped it, or its user.
    trace.drain->set_stop_reason(kMaxTotalSize);
    return std::exchange(trace.stop_seen, true) ? Stopped::kNot : Stopped::kBefore;
  }
  if (!segment.producer_alive()) return Stopped::kNot;
  const auto lock = segment.lock_control();
  if (!lock) return Stopped::kNot;
  // A writer that died in the middle may have left words that can't be read.
  ControlWords words{true, segment.map().header().sample_every,
                     segment.map().header().layers_logged};
  if (const auto locked = read_control(segment.map())) words = locked->words;
  words.enabled = false;
  // Before the words: the line may come at once.
  trace.drain->set_stop_reason(kMaxTotalSize);
  write_control(segment.map(), words);
  trace.stop_seen = true;
  return Stopped::kNow;
}

void Collector::say_stopped(std::size_t stopped, std::size_t stay_off) const {
  const std::uint64_t reserved = reserved_bytes();
  const std::uint64_t limit = options_.max_total_size.bytes;
  const std::string name = "max_total_size " + size_text(options_.max_total_size);
  std::string line = name + " is reached: the trace files have " + shown_bytes(total_bytes()) +
                     ", and " + shown_bytes(reserved) +
                     " are kept for what the rings may still hold; recording ";
  if (stopped > 0) line += "is off in " + counted(stopped, "trace");
  if (stay_off > 0)
    line +=
        (stopped > 0 ? ", and " : "") + std::string("stays off in ") + counted(stay_off, "trace");
  line += reserved >= limit ? "; raise the limit, or give the engines smaller rings "
                              "(MOETRACE_RING_MB)"
                            : "; raise the limit, or remove trace files";
  report_.say(line + "; then run: moetrace start --session " + options_.session);
}

void Collector::publish_written() {
  const auto now = Clock::now();
  const std::uint64_t limit = options_.max_total_size.bytes;
  const std::uint64_t taken = limit == 0 ? 0 : total_bytes() + reserved_bytes();
  std::uint64_t rate = 0;
  for (auto& [id, trace] : traces_) {
    trace.rate.note(now, trace.bytes_before + trace.drain->written_bytes());
    rate += trace.rate.bytes_an_hour();
  }
  for (const auto& [id, trace] : traces_) {
    Written written;
    written.bytes = trace.bytes_before + trace.drain->written_bytes();
    written.bytes_an_hour = trace.rate.bytes_an_hour();
    written.total_bytes_an_hour = rate;
    if (!trace.drain->file().rows()) written.encoder_threads = encoders_.threads();
    if (limit != 0) written.room = limit - std::min(limit, taken);
    store_written(trace.drain->segment().map(), written);
  }
}

}  // namespace moetrace
