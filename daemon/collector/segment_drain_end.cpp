// How a drain ends: with its producer, or at a segment that breaks the contract.
#include <algorithm>

#include "daemon/collector/segment_drain.hpp"

namespace moetrace {
namespace {

// Checking one slot of a dead producer's ring takes about 5 ns.
constexpr std::uint64_t kScannedSlotsAPass = 1 << 16;
// Each probe of the producer's lock opens a file.
constexpr auto kProbeEvery = std::chrono::milliseconds(50);

}  // namespace

bool SegmentDrain::producer_closed() const {
  // acquire: synchronizes with the release store of `closed` when the producer closes its ring.
  return SharedWord(&segment_.map().state()->host.closed).load(std::memory_order_acquire) != 0;
}

bool SegmentDrain::producer_gone() {
  if (gone_) return true;
  const bool closed = producer_closed();
  const auto now = Clock::now();
  if (!closed && now - last_probe_ < kProbeEvery) return false;
  last_probe_ = now;
  if (segment_.producer_alive()) return false;
  // Read it again: the producer may have closed its ring between the first read and the probe.
  closed_ = producer_closed();
  gone_ = true;
  return true;
}

// Searches the whole ring once, a bounded number of slots in each pass, for the last valid slot: a
// dead producer may leave valid slots after a hole. Slots that a GPU claimed and did not publish
// may be half written. False: continue in the next pass.
bool SegmentDrain::find_final_end(const std::optional<moetrace_snapshot>& snapshot) {
  const SegmentMap& map = segment_.map();
  const std::uint64_t lap = routes_.published() + map.header().route_slots;
  if (!scanned_) scanned_ = scan_end_ = route_;
  const std::uint64_t stop = std::min(*scanned_ + kScannedSlotsAPass, lap);
  for (std::uint64_t slot = *scanned_; slot < stop; ++slot) {
    if (valid_routes_end(map, routes_, slot, 1) > slot) scan_end_ = slot + 1;
  }
  scanned_ = stop;
  if (stop < lap) return false;
  final_end_ = snapshot ? std::max(scan_end_, snapshot->claimed) : scan_end_;
  return true;
}

// The producer is gone, every slot has its outcome, and every event has its line.
std::optional<Error> SegmentDrain::finish(std::uint64_t hook_dropped) {
  if (auto error = settle_losses(hook_dropped)) return error;
  settle_missing();
  // Write the end line alone, so that it can be replaced if its file is lost (replace_file).
  if (!has_waiting()) write_end(closed_ ? kClosed : kProducerDied, read_cost(segment_.map()));
  return std::nullopt;
}

void SegmentDrain::write_end(std::string_view status, const std::optional<Cost>& cost) {
  const std::size_t begin = out_.size();
  end_ = TraceEnd{totals_.since(known_from_), status};
  append_end(out_, totals_.since(base_), status, cost, ring_watch_.use());
  mark(begin);
  finished_ = true;
}

// The segment contradicts itself. The trace ends with the checked lines; rows that were announced
// and not found are torn. Nothing in out_ has reached the file yet.
void SegmentDrain::begin_bad_end(const Error& why) {
  bad_ = why;
  const bool is_new = file_.size() == 0 && head_.empty();
  // Keep what this pass checked, unless it may hold zeros of a cut file or impossible totals.
  if (!totals_.possible() || !totals_.follow(committed_.totals) || !segment_.intact())
    go_back_to_checked();
  // Make the text now: the segment may be cut at any time, and rows would become zeros.
  if (!is_new && !rows_) {
    begin_block();
    bool whole = true;
    for (OpenBlock& block : blocks_) whole = encode(block) && whole;
    if (!whole) drop_blocks();
  }
  // An attach that failed has at most a part of the head.
  if (is_new) {
    out_.clear();
    runs_.clear();
    block_->clear();
  }
  // Slots of an open hole are torn without numbers.
  route_ = totals_.next_seq();
  if (is_new && part_ > 1) begin_part();
  if (is_new && part_ == 1) {
    base_ = known_from_ = totals_;
    out_.append(meta_);
    mark(0);
  }
  settle_missing();
}

}  // namespace moetrace
