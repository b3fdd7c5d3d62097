// The writes of a drain. With rows as lines each pass is a write. With Arrow rows a write waits
// until it is worth a message.
#include <algorithm>

#include "daemon/collector/segment_drain.hpp"
#include "shm/ledger.hpp"

namespace moetrace {
namespace {

// How long a row waits for a full batch.
constexpr auto kLongestWait = std::chrono::seconds(1);
// Lines that wait with the rows.
constexpr std::size_t kMostWaitingLines = 1 << 20;
// Passes of few lines share messages up to this size: subscribers get them all at once.
constexpr std::size_t kSharedMessage = 64 << 10;
// A batch may hold this part of either ring.
constexpr std::uint64_t kRingPart = 4;

}  // namespace

Run& SegmentDrain::open_run(bool route, std::size_t begin, std::optional<std::uint64_t> seq) {
  if (runs_.size() == checked_.runs || runs_.back().route != route)
    runs_.push_back({route, begin, begin, seq, 0, {}});
  return runs_.back();
}

void SegmentDrain::mark(std::size_t begin) {
  const bool is_meta = out_.view().substr(begin).starts_with("{\"type\":\"meta\"");
  if (rows_ && !is_meta) add_at_seq(out_, totals_.next_seq());
  Run& run = open_run(false, begin, std::nullopt);
  run.end = out_.size();
  run.totals = totals_;
  ++run.count;
}

void SegmentDrain::mark_routes(std::size_t begin, std::uint64_t first_seq, std::uint64_t count) {
  Run& run = open_run(true, begin, first_seq);
  run.end = rows_ ? live_routes_.size() : block_->entries();
  run.totals = totals_;
  run.count += count;
}

bool SegmentDrain::write_is_due() {
  if (!rows_ || finished_ || bad_ || hurry_ || outgrown_ || route_ == final_end_) return true;
  if (!has_waiting()) return true;
  // Lines alone need no batch.
  if (totals_.next_seq() == written_seq_) return true;
  const moetrace_ring_header& header = segment_.map().header();
  const std::uint64_t most =
      std::min<std::uint64_t>(arrow::kSlotsABatch, header.route_slots / kRingPart);
  if (route_ - routes_.published() >= most || out_.size() >= kMostWaitingLines ||
      events_entered_ - events_.published() >= header.event_slots / kRingPart)
    return true;
  const auto now = Clock::now();
  if (!waiting_since_) waiting_since_ = now;
  return now - *waiting_since_ >= kLongestWait;
}

// Keep this order: the rows, the lines that say so, the subscribers, the ledger, the positions. A
// collector that dies in between loses nothing and repeats nothing, because a restart counts the
// file's own lines, and cuts off what they do not count.
SegmentDrain::State SegmentDrain::flush() {
  writing_ = true;
  if (!rows_) return flush_lines();
  // Lines written to a file that another program has removed or cut are not delivered: they stay in
  // out_. Check before the write, because an emptied file can still be continued, and after it,
  // because only that check counts.
  if (file_.state() != TraceFile::State::kWhole) return lose_file();
  const bool written = write_head() && write_rows() && file_.append(out_.view());
  const auto file = file_.state();
  if (file == TraceFile::State::kRemoved || (written && file != TraceFile::State::kWhole))
    return lose_file();
  if (!written) {
    why_blocked_ = file_.error();
    return State::kBlocked;
  }
  publish();
  out_.clear();
  live_routes_.clear();
  runs_.clear();
  pass_ends_.clear();
  const Written now = here();
  release(now);
  commit(now);
  begin_batch();
  return State::kBusy;
}

SegmentDrain::Written SegmentDrain::here() const {
  Written written{{totals_, events_written_, std::nullopt}, route_, events_entered_, 0};
  if (totals_.open() > 0 && join_.step()) written.step = join_.step()->step;
  written.needed_event = releasable_events();
  return written;
}

// Gives what is written back to the producer; a bad segment stays as it is.
void SegmentDrain::release(const Written& written) {
  if (bad_) return;
  write_ledger(segment_.map(), {.number = ++ledger_number_,
                                .route = written.route,
                                .event = written.event,
                                .attempted = written.totals.attempted(),
                                .filtered = written.totals.filtered(),
                                .dropped = written.totals.hook_dropped(),
                                .event_lost = written.totals.event_lost(),
                                .unclaimed = written.totals.unclaimed()});
  routes_.publish(written.route);
  events_.publish(written.needed_event);
}

void SegmentDrain::publish() {
  LineBatch batch;
  if (pass_ends_.empty() || pass_ends_.back() < runs_.size()) pass_ends_.push_back(runs_.size());
  auto at = runs_.cbegin();
  for (const std::size_t end : pass_ends_) {
    const auto stop = runs_.cbegin() + static_cast<std::ptrdiff_t>(end);
    std::size_t bytes = 0;
    for (auto run = at; run != stop; ++run) bytes += run->end - run->begin;
    if (bytes < kSharedMessage && end < runs_.size()) continue;
    batch.runs.assign(at, stop);
    for (Run& run : batch.runs)
      run.text = (run.route ? live_routes_ : out_).view().substr(run.begin, run.end - run.begin);
    at = stop;
    if (!batch.runs.empty()) publish_(batch);
  }
}

// Also appends the `rows` line to out_.
bool SegmentDrain::write_rows() {
  if (!rows_) return true;
  if (!rows_->empty() && message_.empty())
    message_ = encoder_.encode(*rows_, totals_.next_seq(), totals_.delivered());
  if (!message_.empty() && !message_written_) {
    if (!file_.append_rows(message_)) return false;
    message_written_ = true;
    ++batches_;
  }
  if (totals_.next_seq() != written_seq_ && !lines_end_) {
    lines_end_ = out_.size();
    append_rows(out_, totals_, file_.rows_bytes(), batches_);
  }
  return true;
}

// Before the files have them: a file that can't be written must not hold them.
void SegmentDrain::publish_live_rows() {
  const bool last = step_over_ || finished_ || bad_ || hurry_ || final_end_;
  if (live_.wanted() && live_.due(last)) settings_.publish_rows(live_.take(totals_));
}

// All is written.
void SegmentDrain::begin_batch() {
  writing_ = false;
  hurry_ = false;
  waiting_since_.reset();
  message_ = {};
  message_written_ = false;
  lines_end_.reset();
  written_seq_ = committed_.totals.next_seq();
  if (rows_) rows_->begin(written_seq_);
  remember_checked();
}

// The files of the present write are lost: what it did counts for nothing.
void SegmentDrain::forget_write() {
  message_ = {};
  message_written_ = false;
  if (lines_end_) out_.cut_to(*lines_end_);
  lines_end_.reset();
  for (OpenBlock& block : blocks_) block.done = 0;
}

// The form of a file in which a part begins or continues. Rows that wait keep theirs.
void SegmentDrain::take_form() {
  const auto& form = file_.rows();
  outgrown_ = false;
  batches_ = file_.position() ? file_.position()->rows.batches : 0;
  written_seq_ = committed_.totals.next_seq();
  const bool same = rows_ && form && rows_->form() == *form;
  if (same && !rows_->empty()) return;
  rows_.reset();
  if (!form) return;
  rows_.emplace(*form);
  rows_->begin(written_seq_);
}

void SegmentDrain::remember_checked() {
  checked_ = {totals_,      events_written_,           out_.size(), live_routes_.size(),
              runs_.size(), rows_ ? rows_->rows() : 0, live_.rows()};
  if (!runs_.empty() && (pass_ends_.empty() || pass_ends_.back() < runs_.size()))
    pass_ends_.push_back(runs_.size());
}

void SegmentDrain::go_back_to_checked() {
  totals_ = checked_.totals;
  events_written_ = checked_.events;
  out_.cut_to(checked_.lines);
  live_routes_.cut_to(checked_.route_lines);
  runs_.resize(checked_.runs);
  if (rows_) {
    rows_->cut_to(checked_.rows);
  } else {
    // A pass ends with a write.
    block_->clear();
  }
  if (rows_) rows_->cut_to(checked_.rows);
  live_.cut_to(checked_.live_rows);
}

}  // namespace moetrace
