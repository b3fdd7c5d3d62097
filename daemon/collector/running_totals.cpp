#include "daemon/collector/running_totals.hpp"

#include <cassert>

namespace moetrace {

std::optional<RunningTotals> RunningTotals::from_line(const LineTotals& line) {
  std::uint64_t written = 0;
  if (__builtin_add_overflow(line.delivered, line.filtered, &written) || written > line.seq ||
      line.dropped < line.event_lost)
    return std::nullopt;
  // Every slot below `seq` that was neither delivered nor filtered was torn.
  const std::uint64_t holes = line.seq - written;
  if (line.torn < holes) return std::nullopt;
  RunningTotals totals;
  totals.attempted_ = line.attempted;
  totals.delivered_ = line.delivered;
  totals.filtered_ = line.filtered;
  totals.hook_dropped_ = line.dropped - line.event_lost;
  totals.event_lost_ = line.event_lost;
  totals.holes_ = holes;
  totals.unclaimed_ = line.torn - holes;
  return totals;
}

std::optional<RunningTotals> RunningTotals::from_ledger(const LedgerTotals& ledger) {
  if (ledger.filtered > ledger.seq) return std::nullopt;
  RunningTotals totals;
  totals.attempted_ = ledger.attempted;
  totals.delivered_ = ledger.seq - ledger.filtered;
  totals.filtered_ = ledger.filtered;
  totals.hook_dropped_ = ledger.hook_dropped;
  totals.event_lost_ = ledger.event_lost;
  totals.unclaimed_ = ledger.unclaimed;
  return totals;
}

bool RunningTotals::deliver(std::uint64_t seq) {
  return deliver_run(seq, 1);
}

bool RunningTotals::deliver_run(std::uint64_t first, std::uint64_t count) {
  if (count > kMostRecords || first > kMostRecords - count || !filter_up_to(first)) return false;
  delivered_ += count;
  assert(next_seq() == first + count);
  return true;
}

bool RunningTotals::deliver_up_to(std::uint64_t next, std::uint64_t delivered,
                                  std::uint64_t filtered, std::uint64_t holes) {
  if (next > kMostRecords || holes > kMostRecords || delivered < delivered_ ||
      filtered < filtered_ || delivered > next || filtered > next - delivered ||
      holes_ + holes != next - delivered - filtered)
    return false;
  holes_ += holes;
  delivered_ = delivered;
  filtered_ = filtered;
  return true;
}

bool RunningTotals::filter_up_to(std::uint64_t seq) {
  if (seq < next_seq() || seq > kMostRecords) return false;
  filtered_ += seq - next_seq();
  return true;
}

bool RunningTotals::tear_slots(std::uint64_t first, std::uint64_t count) {
  if (count > kMostRecords || first > kMostRecords - count || !filter_up_to(first)) return false;
  holes_ += count;
  assert(next_seq() == first + count);
  return true;
}

bool RunningTotals::lose_events_up_to(std::uint64_t event_lost) {
  if (event_lost < event_lost_) return false;
  attempted_ += event_lost - event_lost_;
  event_lost_ = event_lost;
  return true;
}

bool RunningTotals::drop_up_to(std::uint64_t hook_dropped) {
  if (hook_dropped < hook_dropped_) return false;
  hook_dropped_ = hook_dropped;
  return true;
}

bool RunningTotals::possible() const {
  for (const std::uint64_t number :
       {attempted_, delivered_, filtered_, hook_dropped_, event_lost_, holes_, unclaimed_}) {
    if (number > kMostRecords) return false;
  }
  return settled() <= attempted_;
}

bool RunningTotals::follow(const RunningTotals& earlier) const {
  return attempted_ >= earlier.attempted_ && delivered_ >= earlier.delivered_ &&
         filtered_ >= earlier.filtered_ && hook_dropped_ >= earlier.hook_dropped_ &&
         event_lost_ >= earlier.event_lost_ && holes_ >= earlier.holes_ &&
         unclaimed_ >= earlier.unclaimed_;
}

RunningTotals RunningTotals::since(const RunningTotals& start) const {
  RunningTotals later = *this;
  later.attempted_ -= start.attempted_ - start.open();
  later.delivered_ -= start.delivered_;
  later.filtered_ -= start.filtered_;
  later.hook_dropped_ -= start.hook_dropped_;
  later.event_lost_ -= start.event_lost_;
  later.holes_ -= start.holes_;
  later.unclaimed_ -= start.unclaimed_;
  return later;
}

RunningTotals RunningTotals::without_open() const {
  RunningTotals settled_only = *this;
  settled_only.attempted_ -= open();
  return settled_only;
}

RunningTotals RunningTotals::before_delivery_of(std::uint64_t count) const {
  RunningTotals before = *this;
  assert(count <= delivered_);
  before.delivered_ -= count;
  return before;
}

}  // namespace moetrace
