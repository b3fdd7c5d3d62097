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
#include "daemon/collector/event_order.hpp"
#include "daemon/collector/event_reader.hpp"
#include "daemon/collector/route_text.hpp"
#include "daemon/collector/step_join.hpp"
#include "daemon/collector/trace_file.hpp"
#include "shm/segment.hpp"

namespace moetrace {

// The status of a trace whose segment said what can't be.
inline constexpr std::string_view kBadSegmentStatus = "bad segment";

struct TraceEnd {
  Totals totals;            // of the file
  std::string_view status;  // "closed", "producer died" or kBadSegmentStatus
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

  // Continues where `file` ends. `filter`: the only layers that are written. kBadSegment if the
  // file says that the segment is bad, or kInUse if the two don't belong together.
  static Result<std::unique_ptr<SegmentDrain>> attach(CollectorSegment segment, TraceFile file,
                                                      const moetrace_layer_mask& filter,
                                                      Publish publish);

  // One bounded piece of work. kBadSegment ends all work on this segment: the file has its `end`
  // line by then, and the segment is left as it is.
  Result<State> pass();

  const CollectorSegment& segment() const { return segment_; }
  const TraceFile& file() const { return file_; }
  const Totals& totals() const { return totals_; }
  const std::string& meta() const { return meta_; }
  // What the `end` line says. Nothing before it is written, nor where the file had one already.
  const std::optional<TraceEnd>& end() const { return end_; }
  // Why the segment is still there although its trace has ended; empty: it is gone.
  const std::string& left_behind() const { return left_behind_; }
  // One line about something that is wrong and ends nothing; empty: nothing new.
  std::string take_warning();

 private:
  SegmentDrain(CollectorSegment segment, TraceFile file, const moetrace_layer_mask& filter,
               Publish publish);

  std::optional<Error> start();
  std::optional<Error> start_late(std::uint64_t event_consumed);
  // What is new goes into out_.
  Result<State> read();
  bool beyond_ring(std::uint64_t route) const;
  // The next event, checked.
  Result<std::optional<Event>> next_event();
  std::optional<Error> apply_written_events();
  std::optional<Error> read_events();
  std::optional<Error> write_routes(std::uint64_t end);
  std::optional<Error> write_route(std::uint64_t position);
  std::optional<Error> check_place(const moetrace_route_head& head);
  void write_hole(std::uint64_t position);
  void flush_hole();
  std::optional<Error> settle_holes();
  enum class Entered {
    kYes,
    kLater,
    kUnknown
  };  // later: more events must be read or written first
  Entered enter_step(std::uint32_t step_low);
  void write_next_event();
  void write_event(const Event& event);
  void apply_event(const Event& event);
  std::optional<Error> settle(const AlternatingLines<MappedLines>::Line& snapshot);
  std::optional<Error> settle_losses(std::uint64_t hook_dropped);
  void settle_missing();
  bool find_final_end(const std::optional<AlternatingLines<MappedLines>::Line>& snapshot);
  std::optional<Error> finish(std::uint64_t hook_dropped);
  std::optional<Error> write_end(std::string_view status, const std::optional<Cost>& cost);
  void end_bad(const Error& why);
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
  EventOrder order_;
  std::deque<Event> pending_;             // read, and not yet due; all of them lie in the ring
  bool events_behind_ = false;            // more events may be there than this pass has read
  std::uint64_t events_left_ = 0;         // to be written in this pass
  std::uint64_t events_written_ = 0;      // events whose head lies below have their line
  std::uint64_t events_entered_ = 0;      // end of the last event that was written or applied
  std::uint64_t step_event_ = 0;          // first slot of the entered step
  bool step_over_ = true;                 // every route of the entered step has been seen
  std::uint64_t step_left_ = 0;           // records of the entered step that can still come
  std::uint64_t next_place_ = 0;          // in the entered step: layer * 2^32 + row, which rise
  int layer_ = -1;                        // of its last route
  std::uint32_t layers_seen_ = 0;         // of the entered step
  moetrace_layer_mask allowed_layers_{};  // that were ever selected
  std::uint64_t event_lost_seen_ = 0;     // read before the events of this pass
  StepJoin join_;
  RouteText text_;
  Totals totals_;
  Totals base_;         // totals where the file starts
  Totals in_file_;      // totals of what the file holds
  bool begun_ = false;  // the file has its first line
  std::uint64_t ledger_number_ = 0;

  std::uint64_t hole_first_ = 0;
  std::uint64_t hole_count_ = 0;
  std::optional<std::uint64_t>
      final_end_;  // set once the producer is gone: no slot from here on will ever become valid
  std::optional<std::uint64_t> scanned_;  // how far the ring was searched for it
  std::uint64_t scan_end_ = 0;            // end of the last valid slot below
  std::chrono::steady_clock::time_point last_new_;
  std::chrono::steady_clock::time_point last_probe_;
  bool gone_ = false;
  bool closed_ = false;
  bool finished_ = false;  // the end line is in out_
  std::optional<TraceEnd> end_;
  std::optional<Error> bad_;  // why the segment is bad; the end line is in out_ or in the file
  bool forgetting_said_ = false;
  std::string left_behind_;

  LineBuffer out_;
  Batch batch_;
};

}  // namespace moetrace
