#include "daemon/cli/missed_rows.hpp"

#include <gtest/gtest.h>

namespace moetrace::cli {
namespace {

TEST(MissedRowsTest, NothingIsMissingBetweenConsecutiveMessages) {
  MissedRows missed;
  // A late subscriber misses nothing of the time before.
  EXPECT_FALSE(missed.take("route", {"t", 1, 7, 10, 500}).any());
  EXPECT_FALSE(missed.take("route", {"t", 1, 8, 10, 510}).any());
  EXPECT_EQ(missed.total().rows, 0u);
}

TEST(MissedRowsTest, AGapIsCountedInMessagesAndRows) {
  MissedRows missed;
  missed.take("route", {"t", 1, 0, 10, 10});
  const auto gap = missed.take("route", {"t", 1, 3, 10, 75});
  EXPECT_EQ(gap.messages, 2u);
  EXPECT_EQ(gap.rows, 55u);
  EXPECT_EQ(missed.total().rows, 55u);
}

TEST(MissedRowsTest, AnotherCollectorCountsFromZero) {
  MissedRows missed;
  missed.take("route", {"t", 1, 5, 10, 100});
  // The first collector died with 20 rows in the file that it had not published.
  const auto gap = missed.take("route", {"t", 2, 0, 10, 130});
  EXPECT_EQ(gap.messages, 0u);
  EXPECT_EQ(gap.rows, 20u);
}

TEST(MissedRowsTest, TopicsAndTracesDoNotMix) {
  MissedRows missed;
  missed.take("route", {"t", 1, 0, 10, 10});
  EXPECT_FALSE(missed.take("meta", {"t", 1, 4, 1, 10}).any());
  EXPECT_FALSE(missed.take("route", {"u", 1, 9, 10, 900}).any());
  EXPECT_EQ(missed.take("meta", {"t", 1, 6, 1, 10}).messages, 1u);
}

}  // namespace
}  // namespace moetrace::cli
