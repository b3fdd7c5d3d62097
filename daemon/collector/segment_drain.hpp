// Drains one segment into one trace file: reads routes and events, joins them, keeps the account,
// and lets the producer go on only when the lines are in the file.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <optional>

#include "daemon/collector/background_sync.hpp"
#include "daemon/collector/line_batch.hpp"
#include "daemon/collector/event_order.hpp"
#include "daemon/collector/event_reader.hpp"
#include "daemon/collector/route_text.hpp"
#include "daemon/collector/span_join.hpp"
#include "daemon/collector/trace_place.hpp"
#include "shm/segment.hpp"

namespace moetrace {

struct TraceEnd {
  Totals totals;  // of the trace, as far back as its files go that were found
  std::string_view status;
};

class SegmentDrain {
 public:
  enum class State {
    kIdle,      // nothing new
    kBusy,      // something was written; come again at once
    kBlocked,   // a file can't take it now, why_blocked() says why; nothing is lost, come again
                // later
    kFileLost,  // another program has removed or cut the file; give another one (replace_file)
    kSyncing,   // everything is in the file, which is on its way to the disk; come again
    kEnded,     // the producer has ended, and everything is in the file and on the disk
  };
  using Publish = std::function<void(const LineBatch&)>;

  // Goes on in `place`. `filter`: the only layers that are written. kBadSegment if the segment
  // can't be, or does not belong to what its file says.
  static Result<std::unique_ptr<SegmentDrain>> attach(CollectorSegment segment, TracePlace place,
                                                      const moetrace_layer_mask& filter,
                                                      Publish publish);

  // One bounded piece of work. kBadSegment ends all work on this segment: the file has its `end`
  // line by then, and the segment is left as it is.
  Result<State> pass();

  // Ends the file with status "continued" and goes on in `next`, the trace's next part. Only
  // where can_change_file().
  void go_on_in(TraceFile next);
  // Everything read so far is written, and the trace has not ended.
  bool can_change_file() const;
  // Whether the file has lines behind those that it began with.
  bool has_lines() const { return file_.size() > head_bytes_; }
  // After kFileLost: goes on in the same file, which was cut to nothing, or in `next`. What was in
  // the lost one counts as lost.
  bool go_on_in_emptied_file();
  void replace_file(TraceFile next);
  std::uint64_t part() const { return part_; }
  // Rows that were written and whose files are gone.
  std::uint64_t lost_rows() const { return lost_rows_; }

  const CollectorSegment& segment() const { return segment_; }
  const TraceFile& file() const { return file_; }
  // After kBlocked: why a file can't be written, or be brought to the disk.
  const std::string& why_blocked() const { return why_blocked_; }
  const Totals& totals() const { return totals_; }
  const std::string& meta() const { return meta_; }
  // What the `end` line says. Nothing before it is written, nor where the file had one already.
  const std::optional<TraceEnd>& end() const { return end_; }
  // Why the segment is still there although its trace has ended; empty: it is gone.
  const std::string& left_behind() const { return left_behind_; }
  // Waits until no file is being brought to the disk. False if that has failed for a part.
  bool wait_for_disk() const;
  // One line about something that is wrong and ends nothing; empty: nothing new.
  std::string take_warning();

 private:
  SegmentDrain(CollectorSegment segment, TraceFile file, const moetrace_layer_mask& filter,
               Publish publish);

  std::optional<Error> start(std::uint64_t part, const std::optional<TracePosition>& position);
  std::optional<Error> start_late();
  std::optional<Error> apply_written_events();
  bool beyond_ring(std::uint64_t route) const;
  // The next event, checked.
  Result<std::optional<Event>> next_event();
  // What is new goes into out_.
  Result<State> read();
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
  void write_end(std::string_view status, const std::optional<Cost>& cost);
  void begin_bad_end(const Error& why);
  std::uint64_t releasable_events() const;
  // kBusy: all is written.
  State flush();
  bool write_head();
  void commit();
  void begin_part();
  void complete_head(const std::set<std::uint64_t>& named);
  void change_file();
  State bring_to_disk();
  void sync_closed_parts();
  std::string unsaid_sync_failure();
  State lose_file();
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
  SpanJoin join_;
  RouteText text_;
  Totals totals_;
  Totals base_;        // totals where the file starts
  Totals known_from_;  // totals where the first file starts that was found
  // What the lines say that are in the file: a next part starts here.
  struct Committed {
    Totals totals;
    std::uint64_t route = 0;
    std::uint64_t events = 0;           // as events_written_
    std::optional<std::uint64_t> step;  // under way
  };
  Committed committed_;
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
  std::optional<Error>
      bad_;  // why the segment is bad: what out_ holds is written, then the end line
  bool forgetting_said_ = false;
  std::string left_behind_;

  std::uint64_t part_ = 1;
  LineBuffer head_;               // the first lines of a part, to be written before out_
  std::uint64_t head_bytes_ = 0;  // how long they are in the file
  std::optional<TraceFile> next_file_;
  // Parts that have their end line and may not be on the disk yet.
  struct ClosedPart {
    TraceFile file;
    BackgroundSync sync;
    std::string said;  // of its failures
  };
  std::list<ClosedPart> closing_;  // where a part lies does not change
  BackgroundSync sync_;            // of file_, once the trace has ended
  bool on_disk_ = false;           // it has succeeded
  std::string why_blocked_;
  bool file_lost_ = false;
  std::uint64_t lost_rows_ = 0;
  std::chrono::steady_clock::time_point last_look_;

  LineBuffer out_;
  LineBatch batch_;
};

}  // namespace moetrace
