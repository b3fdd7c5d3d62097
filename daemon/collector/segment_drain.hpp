// Drains one segment into one trace file: reads routes and events, joins them, counts them, and
// releases their slots to the producer only when the lines are in the file.
//
// segment_drain.cpp         one pass
// segment_drain_start.cpp   where the drain starts
// segment_drain_events.cpp  events, and what a finished step leaves
// segment_drain_routes.cpp  routes and holes
// segment_drain_write.cpp   one write: the rows file, the lines, the ledger
// segment_drain_lines.cpp   the same where rows are lines: blocks of them, on several threads
// segment_drain_end.cpp     how it ends
// segment_drain_files.cpp   parts, lost files, syncing
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <optional>

#include "daemon/collector/arrow_message.hpp"
#include "daemon/collector/background_sync.hpp"
#include "daemon/collector/encoders.hpp"
#include "daemon/collector/event_order.hpp"
#include "daemon/collector/event_reader.hpp"
#include "daemon/collector/line_batch.hpp"
#include "daemon/collector/line_block.hpp"
#include "daemon/collector/live_rows.hpp"
#include "daemon/collector/ring_watch.hpp"
#include "daemon/collector/route_text.hpp"
#include "daemon/collector/row_batch.hpp"
#include "daemon/collector/running_totals.hpp"
#include "daemon/collector/span_join.hpp"
#include "daemon/collector/trace_place.hpp"
#include "shm/collector_segment.hpp"
#include "shm/cost.hpp"

namespace moetrace {

struct TraceEnd {
  // Of the trace, from the first of its files that was found.
  RunningTotals totals;
  std::string_view status;
};

struct DrainSettings {
  // Only these layers are written.
  moetrace_layer_mask layers{{~0ull, ~0ull, ~0ull, ~0ull}};
  RowCompression compression = RowCompression::kFast;
  // Whether subscribers want `route` lines that no file needs. Empty: never.
  std::function<bool()> route_lines_wanted;
  // For rows as lines; nullptr: the thread of the drain does it all. Outlives the drain.
  Encoders* encoders = nullptr;
  // Whether subscribers want rows at once, before the files have them; and where these go. Empty:
  // never.
  std::function<bool()> live_rows_wanted;
  std::function<void(LiveMessage)> publish_rows;
};

class SegmentDrain {
 public:
  enum class State {
    // Nothing new.
    kIdle,
    // The pass wrote something; call again at once.
    kBusy,
    // A file takes no more, why_blocked() says why; nothing is lost, call again later.
    kBlocked,
    // Another program has removed or cut the file; give another one (replace_file).
    kFileLost,
    // Everything is in the file, and a thread syncs it; call again.
    kSyncing,
    // A number outgrows its column; give the next part, with wide columns (go_on_in).
    kOutgrown,
    // The producer has ended, and everything is in the file and on the disk.
    kEnded,
  };
  using Publish = std::function<void(const LineBatch&)>;

  // Continues in `place`. kBadSegment if the segment contradicts itself or its trace file.
  static Result<std::unique_ptr<SegmentDrain>> attach(CollectorSegment segment, TracePlace place,
                                                      DrainSettings settings, Publish publish);
  ~SegmentDrain();
  SegmentDrain(const SegmentDrain&) = delete;
  SegmentDrain& operator=(const SegmentDrain&) = delete;

  // One bounded piece of work. kBadSegment ends all work on this segment: by then the file has its
  // `end` line, and the segment stays as it is.
  Result<State> pass();

  // Ends the file with status "continued" and continues in `next`, the trace's next part. Call it
  // only where can_change_file().
  void go_on_in(TraceFile next);
  // Everything read so far is written, and the trace has not ended.
  bool can_change_file() const;
  // After kOutgrown, and from then on.
  bool needs_wide_rows() const { return outgrown_ || (file_.rows() && file_.rows()->wide); }
  // Writes the rows that wait for a full batch with the next pass.
  void write_waiting_rows() { hurry_ = true; }
  // Whether the file has lines after its head, or will.
  bool has_lines() const { return file_.size() > head_bytes_ || has_waiting(); }
  // The part's head is in the file.
  bool has_begun() const { return head_.empty() && file_.size() > 0; }
  // The part has rows of its own.
  bool has_rows() const { return part_rows() > 0; }
  std::uint64_t part_rows() const { return committed_.totals.delivered() - base_.delivered(); }
  // Of the part's files together; and of its head.
  std::uint64_t part_bytes() const { return file_.size() + file_.rows_bytes(); }
  std::uint64_t head_bytes() const { return head_bytes_; }
  // Of all parts that this drain has written, as far as it found them when it began.
  std::uint64_t written_bytes() const { return past_bytes_ + part_bytes(); }
  // From now on a `control` line that stops recording gives this reason.
  void set_stop_reason(std::string_view reason) { stop_reason_ = reason; }
  // After kFileLost: continue in the same file, which was emptied, or in `next`. The rows of the
  // lost file count as lost.
  bool go_on_in_emptied_file();
  void replace_file(TraceFile next);
  // Rows that are read from now on: writes only these layers.
  void set_layers(const moetrace_layer_mask& layers) { settings_.layers = layers; }
  std::uint64_t part() const { return part_; }
  // Rows in files that are lost.
  std::uint64_t lost_rows() const { return lost_rows_; }

  const CollectorSegment& segment() const { return segment_; }
  const TraceFile& file() const { return file_; }
  // After kBlocked: why a file can't be written or synced.
  const std::string& why_blocked() const { return why_blocked_; }
  const RunningTotals& totals() const { return totals_; }
  const std::string& meta() const { return meta_; }
  // The numbers of the `end` line. Nothing before the drain writes it, nor if the file already had
  // one.
  const std::optional<TraceEnd>& end() const { return end_; }
  // Why the segment still exists after its trace ended; empty if it was removed.
  const std::string& left_behind() const { return left_behind_; }
  // Waits until every sync has finished. False if a part's sync has failed.
  bool wait_for_disk() const;
  // One line about a fault that does not end the trace; empty: nothing new.
  std::string take_warning();

 private:
  using Clock = std::chrono::steady_clock;
  // Events to write in a pass, and slots to read: twice as many, so that reading leads.
  static constexpr std::uint64_t kEventsAPass = 1024;
  static constexpr std::uint64_t kEventSlotsAPass = 2 * kEventsAPass;

  SegmentDrain(CollectorSegment segment, TraceFile file, DrainSettings settings, Publish publish);
  Error bad(const std::string& why) const;
  Error cut() const;

  std::optional<Error> start(std::uint64_t part, const std::optional<TracePosition>& position);
  std::optional<Error> start_late();
  std::optional<Error> apply_written_events();

  // Appends the new lines to out_.
  Result<State> read();
  bool beyond_ring(std::uint64_t route) const;
  // Notes the line of `out_` from `begin` on, for subscribers and for the rows file.
  void mark(std::size_t begin);
  void mark_routes(std::size_t begin, std::uint64_t first_seq, std::uint64_t count);
  Run& open_run(bool route, std::size_t begin, std::optional<std::uint64_t> seq);
  // Something was read and is not written yet.
  bool has_waiting() const {
    return !blocks_.empty() || !out_.empty() || totals_.next_seq() != written_seq_;
  }
  bool write_is_due();
  // kBusy: all is written; with encoders, perhaps all but the last block.
  State flush();
  bool write_rows();
  void begin_batch();
  State flush_lines();
  bool begin_block();
  State write_blocks(std::size_t keep);
  struct OpenBlock;
  bool encode(OpenBlock& block);
  State write(OpenBlock& block);
  void drop_blocks();
  void forget_blocks();
  // What is read so far: the state that a write brings into the files.
  struct Written;
  Written here() const;
  void release(const Written& written);
  void forget_write();
  void take_form();
  void publish();
  // The rows of topic `rows`, once a pass has checked them.
  void publish_live_rows();
  // What a pass has checked: a pass that finds the segment bad goes back to it.
  void remember_checked();
  void go_back_to_checked();

  // The next event, checked.
  Result<std::optional<Event>> next_event();
  std::optional<Error> read_events();
  void write_next_event();
  void write_event(const Event& event);
  void apply_event(const Event& event);
  std::optional<Error> settle(const moetrace_snapshot& snapshot);
  std::optional<Error> settle_losses(std::uint64_t hook_dropped);
  void settle_missing();
  std::uint64_t releasable_events() const;

  // kLater: the drain must first read or write more events.
  enum class Entered { kYes, kLater, kUnknown };
  std::optional<Error> write_routes(std::uint64_t end);
  // The route at `position`, and those after it that belong to the same step and layer; at most up
  // to `end`. How many; 0: the next part must be wide.
  Result<std::uint64_t> write_routes_from(std::uint64_t position, std::uint64_t end);
  std::uint64_t run_length(std::uint64_t position, const moetrace_route_head& head,
                           std::uint64_t most) const;
  void add_routes(const RouteRows& rows);
  bool add_rows(RowBatch& to, std::uint64_t position, std::uint64_t count,
                const moetrace_route_head& head);
  void add_live_rows(std::uint64_t position, std::uint64_t count, const moetrace_route_head& head);
  void add_routes(std::uint64_t position, std::uint64_t count, const moetrace_route_head& head);
  std::optional<Error> check_place(const moetrace_route_head& head);
  Entered enter_step(std::uint32_t step_low);
  // Slots that were read, hold no valid record, and have no `torn` line yet.
  std::uint64_t open_holes() const { return route_ - totals_.next_seq(); }
  void write_holes();
  std::optional<Error> settle_holes();

  bool producer_closed() const;
  bool producer_gone();
  bool find_final_end(const std::optional<moetrace_snapshot>& snapshot);
  std::optional<Error> finish(std::uint64_t hook_dropped);
  void write_end(std::string_view status, const std::optional<Cost>& cost);
  void begin_bad_end(const Error& why);

  bool write_head();
  void commit(const Written& written);
  void begin_part();
  void head_request(const RequestEvent& request);
  void complete_head(const std::set<std::uint64_t>& named);
  void change_file();
  State bring_to_disk();
  void sync_closed_parts();
  std::string unsaid_sync_failure();
  State lose_file();

  CollectorSegment segment_;
  TraceFile file_;
  DrainSettings settings_;
  Publish publish_;
  std::string meta_;

  RingReader<MappedRing> routes_;
  // The next slot to read. Slots from totals_.next_seq() up to it are open holes.
  std::uint64_t route_ = 0;
  RingWatch ring_watch_;
  EventReader events_;
  EventOrder order_;
  // Read and not yet due; all of them are still in the ring.
  std::deque<Event> pending_;
  // The ring may hold more events than this pass has read.
  bool more_events_ = false;
  // How many events this pass may still write.
  std::uint64_t events_left_ = 0;
  // Events with a head slot below this one have their line.
  std::uint64_t events_written_ = 0;
  // The end of the last event that was written or applied.
  std::uint64_t events_entered_ = 0;
  // Of the entered step: its first event slot, whether all its routes were read, how many records
  // may still come, the lowest place (layer * 2^32 + row) of the next one, the layer of the last
  // one, and how many layers came.
  std::uint64_t step_event_ = 0;
  bool step_over_ = true;
  std::uint64_t step_left_ = 0;
  std::uint64_t next_place_ = 0;
  int layer_ = -1;
  std::uint32_t layers_seen_ = 0;
  // Layers that were selected at any time.
  moetrace_layer_mask allowed_layers_{};
  // The producer's counter, read before the events of this pass.
  std::uint64_t event_lost_seen_ = 0;
  SpanJoin join_;
  RouteText text_;
  std::string step_text_;
  RunningTotals totals_;
  // The totals where this file starts, and where the first file starts that was found.
  RunningTotals base_;
  RunningTotals known_from_;
  // What the lines in the file say: the next part starts here.
  struct Committed {
    RunningTotals totals;
    // As events_written_.
    std::uint64_t events = 0;
    // The step under way.
    std::optional<std::uint64_t> step;
  };
  Committed committed_;
  struct Written : Committed {
    // The first slots that are not in the files, and the first event that a restart needs.
    std::uint64_t route = 0;
    std::uint64_t event = 0;
    std::uint64_t needed_event = 0;
  };
  std::uint64_t ledger_number_ = 0;

  // Set once the producer is gone: slots from here on never become valid.
  std::optional<std::uint64_t> final_end_;
  // How far find_final_end() has searched, and the end of the last valid slot below.
  std::optional<std::uint64_t> scanned_;
  std::uint64_t scan_end_ = 0;
  Clock::time_point last_new_;
  Clock::time_point last_probe_;
  bool gone_ = false;
  bool closed_ = false;
  // The end line is in out_, or in the file.
  bool finished_ = false;
  std::optional<TraceEnd> end_;
  // Why the segment is bad. The drain still writes out_, then the end line.
  std::optional<Error> bad_;
  bool forgetting_said_ = false;
  // "": somebody else stops recording.
  std::string_view stop_reason_;
  std::string left_behind_;

  std::uint64_t part_ = 1;
  // Lines that subscribers don't get, to be written before out_: the first ones of a part, or its
  // `end` line; and the length of the head in the file.
  LineBuffer head_;
  std::uint64_t head_bytes_ = 0;
  // Of the parts before this one.
  std::uint64_t past_bytes_ = 0;
  std::optional<TraceFile> next_file_;
  // A part that has its end line and may not be on the disk yet.
  struct ClosedPart {
    TraceFile file;
    BackgroundSync sync;
    // The failure that take_warning() gave last.
    std::string said;
  };
  // A list: a running sync holds its part's address.
  std::list<ClosedPart> closing_;
  // Of file_, once the trace has ended; and whether it has succeeded.
  BackgroundSync sync_;
  bool on_disk_ = false;
  std::string why_blocked_;
  bool file_lost_ = false;
  std::uint64_t lost_rows_ = 0;
  Clock::time_point last_look_;

  // Lines to write, and their runs. The ends of a run count in out_; those of rows count in
  // block_, or in live_routes_, the `route` lines that only subscribers get.
  LineBuffer out_;
  LineBuffer live_routes_;
  std::vector<Run> runs_;
  LiveRows live_;

  // ---- with rows as lines ----
  // What comes with out_.
  std::unique_ptr<LineBlock> block_;
  // Closed, oldest first; and one that is written, for its memory.
  struct OpenBlock {
    explicit OpenBlock(std::unique_ptr<LineBlock> lines_) : lines(std::move(lines_)), job(*lines) {}
    std::unique_ptr<LineBlock> lines;
    Encoders::Job job;
    Written written;
    bool encoded = false;
    // Once encoded: no row has become zeros, because the ring was cut.
    bool whole = true;
    // Chunks in the file.
    std::size_t done = 0;
  };
  std::list<OpenBlock> blocks_;
  std::unique_ptr<LineBlock> spare_;
  // For encoding in the drain's own thread.
  Encoders alone_{1};

  // ---- with Arrow rows: read, and waiting to be written ----
  std::optional<RowBatch> rows_;
  BatchEncoder encoder_;
  // A write has begun: until it has ended, nothing more is read.
  bool writing_ = false;
  // Of rows_, during a write; and what of the write is done.
  std::string_view message_;
  bool message_written_ = false;
  // The end of the lines in out_, before the `rows` line of this write.
  std::optional<std::size_t> lines_end_;
  // What the last `rows` line said.
  std::uint64_t written_seq_ = 0;
  std::uint64_t batches_ = 0;
  // When the oldest of what waits was read.
  std::optional<Clock::time_point> waiting_since_;
  bool hurry_ = false;
  bool outgrown_ = false;
  // What the passes since the last write have checked; the sizes of what they left.
  struct Checked {
    RunningTotals totals;
    std::uint64_t events = 0;
    std::size_t lines = 0;
    std::size_t route_lines = 0;
    std::size_t runs = 0;
    std::uint32_t rows = 0;
    std::uint32_t live_rows = 0;
  };
  Checked checked_;
  // Where the passes end in runs_: a subscriber gets the lines of each in messages of their own.
  std::vector<std::size_t> pass_ends_;
};

}  // namespace moetrace
