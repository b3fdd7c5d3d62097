// What has become of a trace's route records so far. The drain counts as it writes lines, a restart
// counts the same lines again (resume.cpp), and both must reach the same numbers.
#pragma once

#include <cstdint>
#include <optional>

namespace moetrace {

// The most records of a trace. Sums of a few such numbers do not overflow.
inline constexpr std::uint64_t kMostRecords = std::uint64_t{1} << 60;

// The totals of a `step`, `base` or `part` line.
struct LineTotals {
  std::uint64_t seq = 0;
  std::uint64_t attempted = 0;
  std::uint64_t delivered = 0;
  std::uint64_t filtered = 0;
  std::uint64_t dropped = 0;
  std::uint64_t torn = 0;
  std::uint64_t event_lost = 0;
};

// The totals of a ledger in the control page (moetrace_ledger).
struct LedgerTotals {
  std::uint64_t seq = 0;
  std::uint64_t attempted = 0;
  std::uint64_t filtered = 0;
  std::uint64_t hook_dropped = 0;
  std::uint64_t event_lost = 0;
  std::uint64_t unclaimed = 0;
};

// Conservation, after every call: attempted = delivered + filtered + dropped + torn + open. A
// function that returns bool changes nothing where it returns false.
class RunningTotals {
 public:
  // Nothing if the numbers contradict themselves. Check possible() as well.
  static std::optional<RunningTotals> from_line(const LineTotals& line);
  // Counts a hole as delivered: the ledger keeps no number for holes, which only a dead producer
  // leaves.
  static std::optional<RunningTotals> from_ledger(const LedgerTotals& ledger);

  // A step announced `records` rows. The rows of the step under way count as attempted.
  void announce(std::uint64_t records) { attempted_ += records; }
  // The slot `seq` has its line; the filter left out the slots between next_seq() and it. False if
  // `seq` is below next_seq(), or more than a trace can have.
  bool deliver(std::uint64_t seq);
  // Every slot below `next_seq` has its outcome, with these totals and `holes` more torn slots.
  // False if that contradicts the present totals.
  bool deliver_up_to(std::uint64_t next_seq, std::uint64_t delivered, std::uint64_t filtered,
                     std::uint64_t holes);
  // The same for `count` slots from `first`.
  bool deliver_run(std::uint64_t first, std::uint64_t count);
  // The filter left out every slot from next_seq() to `seq`, without it. False as for deliver().
  bool filter_up_to(std::uint64_t seq);
  // `count` slots from `first` were claimed and never became valid. False as for deliver().
  bool tear_slots(std::uint64_t first, std::uint64_t count);
  // `count` announced rows never reached a slot, and the hook did not count them as dropped.
  void tear_unclaimed(std::uint64_t count) { unclaimed_ += count; }
  // Both take the producer's counter, and return false if it went back. Rows whose announcement
  // found no room count as attempted with their loss.
  bool lose_events_up_to(std::uint64_t event_lost);
  bool drop_up_to(std::uint64_t hook_dropped);

  std::uint64_t attempted() const { return attempted_; }
  std::uint64_t delivered() const { return delivered_; }
  std::uint64_t filtered() const { return filtered_; }
  std::uint64_t dropped() const { return hook_dropped_ + event_lost_; }
  std::uint64_t torn() const { return holes_ + unclaimed_; }
  // Dropped by the hook, because the route ring was full.
  std::uint64_t hook_dropped() const { return hook_dropped_; }
  // Dropped because the event ring had no room for the announcement.
  std::uint64_t event_lost() const { return event_lost_; }
  // Torn without a slot.
  std::uint64_t unclaimed() const { return unclaimed_; }
  // Announced, with no outcome yet. Makes sense only where possible().
  std::uint64_t open() const { return attempted_ - settled(); }
  // The first slot without an outcome: every slot below it was delivered, filtered or torn.
  std::uint64_t next_seq() const { return delivered_ + filtered_ + holes_; }

  // False if a number is above kMostRecords, or if more rows have an outcome than were announced.
  bool possible() const;
  // Whether these can be later totals of the trace that had `earlier`.
  bool follow(const RunningTotals& earlier) const;

  // What came after `start`, where these follow(): rows that were open then count as attempted
  // after it.
  RunningTotals since(const RunningTotals& start) const;
  // Without the open rows: a part that ends leaves them to the next part.
  RunningTotals without_open() const;
  // As they were before the last `count` rows were delivered.
  RunningTotals before_delivery_of(std::uint64_t count) const;

 private:
  std::uint64_t settled() const { return delivered_ + filtered_ + dropped() + torn(); }

  std::uint64_t attempted_ = 0;
  std::uint64_t delivered_ = 0;
  std::uint64_t filtered_ = 0;
  std::uint64_t hook_dropped_ = 0;
  std::uint64_t event_lost_ = 0;
  std::uint64_t holes_ = 0;  // torn slots
  std::uint64_t unclaimed_ = 0;
};

}  // namespace moetrace
