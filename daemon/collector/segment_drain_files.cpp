// The files of a drain: from part to part, and onto the disk.
#include <algorithm>

#include "daemon/collector/segment_drain.hpp"
#include "shm/ledger.hpp"

namespace moetrace {

void SegmentDrain::commit(const Written& written) {
  committed_ = written;
  join_.release(committed_.events);
}

// These lines are not published: subscribers follow the trace, and a part is a matter of its files.
void SegmentDrain::begin_part() {
  base_ = committed_.totals;
  head_bytes_ = 0;
  head_.clear();
  head_.append(file_.meta());
  append_start(head_, part_, base_, committed_.events, committed_.step);
  if (rows_) add_at_seq(head_, base_.next_seq());
  for (const RequestEvent& request : join_.live_at(committed_.events)) head_request(request);
}

void SegmentDrain::head_request(const RequestEvent& request) {
  append_request(head_, request, std::nullopt);
  if (rows_) add_at_seq(head_, base_.next_seq());
}

void SegmentDrain::complete_head(const std::set<std::uint64_t>& named) {
  head_bytes_ = file_.size();
  for (const RequestEvent& request : join_.live_at(committed_.events)) {
    if (!named.contains(request.request)) head_request(request);
  }
  writing_ = !head_.empty();
}

bool SegmentDrain::write_head() {
  if (!file_.begin_rows()) return false;
  if (head_.empty()) return true;
  if (!file_.append(head_.view())) return false;
  head_.clear();
  head_bytes_ = file_.size();
  return true;
}

bool SegmentDrain::can_change_file() const {
  return !finished_ && !bad_ && !file_lost_ && !next_file_ && head_.empty() && !has_waiting();
}

void SegmentDrain::go_on_in(TraceFile next) {
  const RunningTotals here = totals_.since(base_).without_open();
  append_end(head_, here, kContinued, read_cost(segment_.map()), ring_watch_.use(), totals_.open());
  if (rows_) add_at_seq(head_, totals_.next_seq());
  writing_ = true;
  next_file_ = std::move(next);
}

void SegmentDrain::change_file() {
  past_bytes_ += part_bytes();
  if (file_.state() == TraceFile::State::kWhole) {
    closing_.push_back({std::move(file_), {}, {}});
  } else {
    lost_rows_ += totals_.delivered() - base_.delivered();
  }
  file_ = std::move(*next_file_);
  next_file_.reset();
  ++part_;
  take_form();
  begin_part();
}

// The drain continues while a thread syncs each part.
void SegmentDrain::sync_closed_parts() {
  for (auto part = closing_.begin(); part != closing_.end();)
    part = part->sync.advance(part->file) ? closing_.erase(part) : std::next(part);
}

// Call it once the trace has ended. kEnded: every file that the trace still has is on the disk.
SegmentDrain::State SegmentDrain::bring_to_disk() {
  sync_closed_parts();
  on_disk_ = on_disk_ || sync_.advance(file_);
  if (on_disk_ && closing_.empty()) return State::kEnded;
  why_blocked_ = on_disk_ ? "" : sync_.why();
  for (const ClosedPart& part : closing_) {
    if (!part.sync.why().empty()) why_blocked_ = part.sync.why();
  }
  return why_blocked_.empty() ? State::kSyncing : State::kBlocked;
}

bool SegmentDrain::wait_for_disk() const {
  sync_.wait();
  for (const ClosedPart& part : closing_) part.sync.wait();
  return std::all_of(closing_.begin(), closing_.end(),
                     [](const ClosedPart& part) { return part.sync.why().empty(); });
}

// Gives each reason once, while the trace continues.
std::string SegmentDrain::unsaid_sync_failure() {
  for (ClosedPart& part : closing_) {
    if (part.sync.why() == part.said || finished_) continue;
    part.said = part.sync.why();
    // A part that recovered has nothing to say, and must not hide the next part's failure.
    if (!part.said.empty()) return part.said;
  }
  return {};
}

SegmentDrain::State SegmentDrain::lose_file() {
  file_lost_ = true;
  return State::kFileLost;
}

bool SegmentDrain::go_on_in_emptied_file() {
  if (!file_.begin_anew(part_ + 1)) return false;
  replace_file(std::move(file_));
  return true;
}

void SegmentDrain::replace_file(TraceFile next) {
  lost_rows_ += part_rows();
  past_bytes_ += part_bytes();
  sync_.wait();
  sync_ = {};
  on_disk_ = false;
  file_ = std::move(next);
  file_lost_ = false;
  forget_write();
  // The trace's end line stands alone, and holds the totals of the lost file: drop it. The next
  // pass writes a new one.
  if (finished_) {
    forget_blocks();
    out_.clear();
    runs_.clear();
    pass_ends_.clear();
  }
  next_file_.reset();
  finished_ = false;
  ++part_;
  take_form();
  begin_part();
  writing_ = true;
}

}  // namespace moetrace
