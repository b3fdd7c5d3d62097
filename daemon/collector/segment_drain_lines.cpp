// The writes of a drain whose rows are lines. Each pass closes a block. With encoders, the next one
// is read while they make the text of this one: at most two are unwritten.
#include "daemon/collector/segment_drain.hpp"

namespace moetrace {
namespace {

// Fewer rows are written at once: an idle core would take longer to wake up.
constexpr std::uint64_t kLeastShared = 4ull * LineBlock::kRowsAChunk;

}  // namespace

SegmentDrain::~SegmentDrain() {
  forget_blocks();
}

void SegmentDrain::forget_blocks() {
  for (OpenBlock& block : blocks_) settings_.encoders->withdraw(block.job);
  blocks_.clear();
}

// Closes what was read since the last block. False: nothing was.
bool SegmentDrain::begin_block() {
  pass_ends_.clear();
  if (!blocks_.empty() && out_.empty() && block_->rows() == 0 &&
      blocks_.back().written.route == route_ && blocks_.back().written.event == events_entered_)
    return false;
  block_->close(out_, runs_);
  OpenBlock& block = blocks_.emplace_back(std::move(block_));
  block.written = here();
  settings_.encoders->begin(block.job);
  if (spare_) {
    block_ = std::move(spare_);
    block_->clear();
  } else {
    block_ = std::make_unique<LineBlock>(text_, segment_.map(), routes_.memory());
  }
  return true;
}

SegmentDrain::State SegmentDrain::flush_lines() {
  const bool share = begin_block() && settings_.encoders->threads() > 1 && !hurry_ && !bad_ &&
                     !finished_ && blocks_.back().lines->rows() >= kLeastShared;
  return write_blocks(share ? 1 : 0);
}

// Writes all but the last `keep` blocks.
SegmentDrain::State SegmentDrain::write_blocks(std::size_t keep) {
  while (blocks_.size() > keep) {
    OpenBlock& block = blocks_.front();
    if (!encode(block)) {
      begin_bad_end(cut());
      begin_block();
      continue;
    }
    if (const State state = write(block); state != State::kBusy) return state;
    LineBatch batch{block.lines->runs()};
    if (!batch.runs.empty()) publish_(batch);
    release(block.written);
    commit(block.written);
    spare_ = std::move(block.lines);
    blocks_.pop_front();
  }
  begin_batch();
  return State::kBusy;
}

// False: the ring was cut, so rows may have become zeros. Nothing of the block is in the file.
bool SegmentDrain::encode(OpenBlock& block) {
  if (!block.encoded) {
    settings_.encoders->finish(block.job);
    block.encoded = true;
    block.whole = block.lines->rows() == 0 || segment_.intact();
  }
  return block.whole;
}

// Lines written to a file that another program has removed or cut are not delivered: the block
// stays. Check before the write, because an emptied file can still be continued, and after it,
// because only that check counts.
SegmentDrain::State SegmentDrain::write(OpenBlock& block) {
  if (file_.state() != TraceFile::State::kWhole) return lose_file();
  bool written = write_head();
  while (written && block.done < block.lines->chunks()) {
    written = file_.append(block.lines->text(block.done));
    if (written) ++block.done;
  }
  const auto file = file_.state();
  if (file == TraceFile::State::kRemoved || (written && file != TraceFile::State::kWhole))
    return lose_file();
  if (written) return State::kBusy;
  why_blocked_ = file_.error();
  return State::kBlocked;
}

// All that is not in the file: its records are still in the ring.
void SegmentDrain::drop_blocks() {
  forget_blocks();
  block_->clear();
  out_.clear();
  runs_.clear();
  totals_ = committed_.totals;
  events_written_ = committed_.events;
  remember_checked();
}

}  // namespace moetrace
