// The parts of the traces that a collector writes: when the next one begins, which ones stay.
#include <utility>

#include "daemon/collector/collector.hpp"
#include "daemon/collector/kept_parts.hpp"
#include "daemon/collector/part_limits.hpp"

namespace moetrace {
namespace {

// After a part could not be begun.
constexpr auto kRetryPartEvery = std::chrono::seconds(1);

}  // namespace

// Those that an earlier collector wrote, and that this one may continue.
void Collector::note_earlier_parts(Trace& trace) {
  const auto files = trace_files(trace.names, trace.channel.trace_id);
  if (!files) return;
  for (const std::string& path : *files) {
    if (path != trace.drain->file().path()) trace.bytes_before += finished_files_.add(path);
  }
}

// A part counts once its head is in its file: from then on a restart continues in it.
void Collector::note_part(Trace& trace) {
  const SegmentDrain& drain = *trace.drain;
  if (!drain.has_begun()) return;
  if (trace.part != drain.part()) {
    const bool resumed = trace.part == 0 && drain.file().position();
    if (trace.part != 0) finished_files_.add(trace.path);
    finished_files_.forget(drain.file().path());
    trace.path = drain.file().path();
    trace.part = drain.part();
    trace.part_began = Clock::now() - (resumed ? drain.file().age() : Clock::duration{});
    trace.old_parts_removed = false;
  }
  if (!trace.old_parts_removed) remove_old_parts(trace);
}

void Collector::remove_old_parts(Trace& trace) {
  trace.old_parts_removed = true;
  const std::uint64_t keep = options_.keep.count;
  if (keep == 0 || trace.part <= keep) return;
  const RemovedParts removed =
      remove_parts_before(trace.names, trace.channel.trace_id, trace.part - keep + 1);
  for (const std::string& path : removed.paths) {
    finished_files_.forget(path);
    report_.removed(path);
  }
  if (!removed.parts.empty() && !options_.prints_only_faults()) {
    report_.say("trace " + trace.channel.trace_id + ": keeps " + std::to_string(keep) +
                (keep == 1 ? " part" : " parts") + ", removed part " + numbers_text(removed.parts) +
                ", " + removed.paths.front() + (removed.paths.size() > 1 ? " and so on" : ""));
  }
  if (!removed.problem.empty() && trace.unremoved != removed.problem) report_.say(removed.problem);
  trace.unremoved = removed.problem;
}

// By size, by age, or after SIGHUP.
void Collector::begin_due_part(Trace& trace) {
  SegmentDrain& drain = *trace.drain;
  const auto now = Clock::now();
  if (!trace.change_file) {
    if (trace.part != drain.part() || now < trace.next_part) return;
    const PartState part{drain.part_bytes(), drain.head_bytes(), drain.has_rows(),
                         now - trace.part_began};
    if (!part_is_over(part, options_.max_file_size, options_.max_age)) return;
    drain.write_waiting_rows();
  }
  if (!drain.can_change_file()) return;
  const bool asked = std::exchange(trace.change_file, false);
  const std::string why = change_file(trace);
  if (!why.empty()) {
    trace.next_part = now + kRetryPartEvery;
    if (asked || trace.no_part_because != why)
      report_.say(why + "; the trace continues in its present file");
  }
  trace.no_part_because = why;
}

}  // namespace moetrace
