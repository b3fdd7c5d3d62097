// Drains one segment into one trace file: reads routes and events, joins them, keeps the account,
// and lets the producer go on only when the lines are in the file.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>

#include "daemon/collector/batch.hpp"
#include "daemon/collector/event_reader.hpp"
#include "daemon/collector/route_text.hpp"
#include "daemon/collector/step_join.hpp"
#include "daemon/collector/trace_file.hpp"
#include "shm/segment.hpp"

namespace moetrace {

struct TraceEnd {
  Totals totals;            // of the file
  std::string_view status;  // "closed" or "producer died"
};

class SegmentDrain {
 public:
  enum class State {
    kIdle,     // nothing new
    kBusy,     // something was written; come again at once
    kBlocked,  // the file can't take it now; nothing is lost, come again later
    kEnded,    // the producer has ended, and everything is in the file
  };
  using Publish = std::function<void(const Batch&)>;

  // Continues where `file` ends. `filter`: the only layers that are written. kBadSegment, or kInUse
  // if the file and the segment don't belong together.
  static Result<std::unique_ptr<SegmentDrain>> attach(CollectorSegment segment, TraceFile file,
                                                      const moetrace_layer_mask& filter,
                                                      Publish publish);

  // One bounded piece of work. kBadSegment ends all work on this segment.
  Result<State> pass();

  const CollectorSegment& segment() const { return segment_; }
  const TraceFile& file() const { return file_; }
  const Totals& totals() const { return totals_; }
  const std::string& meta() const { return meta_; }
  // What the `end` line says. Nothing before it is written, nor where the file had one already.
  const std::optional<TraceEnd>& end() const { return end_; }

 private:
  SegmentDrain(CollectorSegment segment, TraceFile file, const moetrace_layer_mask& filter,
               Publish publish);

  std::optional<Error> start();
  std::optional<Error> start_late(std::uint64_t event_consumed);
  // What is new goes into out_.
  Result<State> read();
  std::optional<Error> read_events();
  std::optional<Error> write_routes(std::uint64_t end);
  std::optional<Error> write_route(std::uint64_t position, std::uint32_t step_low);
  void write_hole(std::uint64_t position);
  void flush_hole();
  bool enter_step(std::uint32_t step_low);
  void write_event(const Event& event);
  void apply_event(const Event& event);
  std::optional<Error> settle(const AlternatingLines<MappedLines>::Line& snapshot);
  std::optional<Error> settle_losses(std::uint64_t hook_dropped);
  void settle_missing();
  std::optional<Error> finish(std::uint64_t hook_dropped);
  std::uint64_t releasable_events() const;
  bool flush();
  void mark(bool route, std::size_t begin, std::optional<std::uint64_t> seq);
  bool producer_gone();
  Error bad(const std::string& why) const;
  Error cut() const;

  CollectorSegment segment_;
  TraceFile file_;
  moetrace_layer_mask filter_;
  Publish publish_;
  std::string meta_;

  RingReader<MappedRing> routes_;
  std::uint64_t route_ = 0;  // next slot
  EventReader events_;
  std::deque<Event> pending_;          // read, and not yet due
  std::uint64_t events_written_ = 0;   // events whose head lies below have their line
  std::uint64_t events_entered_ = 0;   // end of the last event that was written or applied
  std::uint64_t step_event_ = 0;       // first slot of the entered step
  bool step_over_ = true;              // every route of the entered step has been seen
  std::uint64_t event_lost_seen_ = 0;  // read before the events of this pass
  StepJoin join_;
  RouteText text_;
  Totals totals_;
  Totals base_;  // totals where the file starts
  std::uint64_t ledger_number_ = 0;

  std::uint64_t hole_first_ = 0;
  std::uint64_t hole_count_ = 0;
  std::optional<std::uint64_t>
      final_end_;  // set once the producer is gone: no slot from here on will ever become valid
  std::chrono::steady_clock::time_point last_new_;
  std::chrono::steady_clock::time_point last_probe_;
  bool gone_ = false;
  bool closed_ = false;
  bool finished_ = false;  // the end line is in out_
  std::optional<TraceEnd> end_;

  LineBuffer out_;
  Batch batch_;
};

}  // namespace moetrace
