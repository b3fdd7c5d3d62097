#include "daemon/collector/running_totals.hpp"

#include <gtest/gtest.h>

namespace moetrace {
namespace {

LineTotals line_of(const RunningTotals& totals) {
  return {totals.next_seq(), totals.attempted(), totals.delivered(), totals.filtered(),
          totals.dropped(),  totals.torn(),      totals.event_lost()};
}

void expect_same(const RunningTotals& a, const RunningTotals& b) {
  EXPECT_TRUE(a.follow(b));
  EXPECT_TRUE(b.follow(a));
}

void expect_conserved(const RunningTotals& totals) {
  EXPECT_TRUE(totals.possible());
  EXPECT_EQ(totals.attempted(), totals.delivered() + totals.filtered() + totals.dropped() +
                                    totals.torn() + totals.open());
}

// 20 rows announced: 3 delivered, 2 filtered, 2 torn slots, 4 dropped, 1 torn without a slot; and
// 5 rows whose announcement was lost.
RunningTotals some_of_each() {
  RunningTotals totals;
  totals.announce(20);
  EXPECT_TRUE(totals.deliver(0));
  EXPECT_TRUE(totals.deliver(3));
  EXPECT_TRUE(totals.tear_slots(4, 2));
  EXPECT_TRUE(totals.deliver(6));
  EXPECT_TRUE(totals.lose_events_up_to(5));
  EXPECT_TRUE(totals.drop_up_to(4));
  totals.tear_unclaimed(1);
  return totals;
}

TEST(RunningTotalsTest, EveryRowHasOneOutcome) {
  const RunningTotals totals = some_of_each();
  expect_conserved(totals);
  EXPECT_EQ(totals.attempted(), 25u);
  EXPECT_EQ(totals.delivered(), 3u);
  EXPECT_EQ(totals.filtered(), 2u);
  EXPECT_EQ(totals.dropped(), 9u);
  EXPECT_EQ(totals.torn(), 3u);
  EXPECT_EQ(totals.open(), 8u);
  EXPECT_EQ(totals.next_seq(), 7u);
}

TEST(RunningTotalsTest, ALineGivesTheTotalsBack) {
  const RunningTotals totals = some_of_each();
  const auto read = RunningTotals::from_line(line_of(totals));
  ASSERT_TRUE(read);
  expect_same(*read, totals);
  EXPECT_EQ(read->unclaimed(), 1u);
  EXPECT_EQ(read->hook_dropped(), 4u);
}

TEST(RunningTotalsTest, LinesThatContradictThemselvesAreRefused) {
  const LineTotals good = line_of(some_of_each());
  LineTotals bad = good;
  bad.seq = 4;  // below delivered + filtered
  EXPECT_FALSE(RunningTotals::from_line(bad));
  bad = good;
  bad.delivered = UINT64_MAX;
  EXPECT_FALSE(RunningTotals::from_line(bad));
  bad = good;
  bad.event_lost = good.dropped + 1;
  EXPECT_FALSE(RunningTotals::from_line(bad));
  bad = good;
  bad.torn = 1;  // below the two holes that `seq` implies
  EXPECT_FALSE(RunningTotals::from_line(bad));
}

TEST(RunningTotalsTest, ALedgerGivesTheTotalsBack) {
  RunningTotals totals;
  totals.announce(10);
  EXPECT_TRUE(totals.deliver(2));
  EXPECT_TRUE(totals.filter_up_to(5));
  EXPECT_TRUE(totals.lose_events_up_to(3));
  EXPECT_TRUE(totals.drop_up_to(1));
  totals.tear_unclaimed(2);
  const LedgerTotals ledger{totals.next_seq(),     totals.attempted(),  totals.filtered(),
                            totals.hook_dropped(), totals.event_lost(), totals.unclaimed()};
  const auto read = RunningTotals::from_ledger(ledger);
  ASSERT_TRUE(read);
  expect_same(*read, totals);
  EXPECT_EQ(read->next_seq(), 5u);
  EXPECT_FALSE(RunningTotals::from_ledger({.seq = 1, .filtered = 2}));
}

TEST(RunningTotalsTest, NoSlotIsCountedTwice) {
  RunningTotals totals = some_of_each();
  EXPECT_FALSE(totals.deliver(6));
  EXPECT_FALSE(totals.filter_up_to(6));
  EXPECT_FALSE(totals.tear_slots(6, 1));
  expect_same(totals, some_of_each());
}

TEST(RunningTotalsTest, SlotsBeyondAnyTraceAreRefused) {
  RunningTotals totals = some_of_each();
  EXPECT_FALSE(totals.deliver(UINT64_MAX));
  EXPECT_FALSE(totals.deliver(kMostRecords));
  EXPECT_FALSE(totals.filter_up_to(kMostRecords + 1));
  EXPECT_FALSE(totals.tear_slots(99, UINT64_MAX));
  EXPECT_FALSE(totals.tear_slots(99, kMostRecords));
  EXPECT_FALSE(totals.tear_slots(UINT64_MAX, 1));
  expect_same(totals, some_of_each());
}

TEST(RunningTotalsTest, CountersNeverGoBack) {
  RunningTotals totals = some_of_each();
  EXPECT_FALSE(totals.lose_events_up_to(4));
  EXPECT_FALSE(totals.drop_up_to(3));
  expect_same(totals, some_of_each());
}

TEST(RunningTotalsTest, MoreOutcomesThanAnnouncedRowsAreImpossible) {
  RunningTotals totals;
  EXPECT_TRUE(totals.deliver(0));
  EXPECT_FALSE(totals.possible());
  totals.announce(1);
  EXPECT_TRUE(totals.possible());
  totals.announce(kMostRecords);
  EXPECT_FALSE(totals.possible());
}

TEST(RunningTotalsTest, PartsAddUpToTheTrace) {
  const RunningTotals start = some_of_each();  // 8 rows are open
  RunningTotals totals = start;
  totals.announce(2);
  EXPECT_TRUE(totals.deliver(7));
  const RunningTotals first = start.without_open();
  const RunningTotals second = totals.since(start);
  expect_conserved(first);
  expect_conserved(second);
  EXPECT_EQ(first.open(), 0u);
  EXPECT_EQ(second.attempted(), 10u);
  EXPECT_EQ(second.delivered(), 1u);
  EXPECT_EQ(first.attempted() + second.attempted(), totals.attempted());
  EXPECT_EQ(first.delivered() + second.delivered(), totals.delivered());
}

TEST(RunningTotalsTest, RowsOnTheirWayToSubscribersAreStillOpen) {
  const RunningTotals before = some_of_each().before_delivery_of(2);
  expect_conserved(before);
  EXPECT_EQ(before.delivered(), 1u);
  EXPECT_EQ(before.open(), 10u);
}

}  // namespace
}  // namespace moetrace
