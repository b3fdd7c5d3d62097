// The small parts of the command line that stand alone.
#include <gtest/gtest.h>

#include "daemon/cli/counts_view.hpp"
#include "daemon/cli/missed_rows.hpp"
#include "daemon/cli/short_line.hpp"
#include "common/text.hpp"

namespace moetrace::cli {
namespace {

TEST(MissedRowsTest, NothingIsMissingBetweenConsecutiveMessages) {
  MissedRows missed;
  EXPECT_FALSE(
      missed.take("route", {"t", 1, 7, 10, 500}).any());  // joined late: the rest was never ours
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
  // The first one died with 20 rows in the file that it never sent.
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

TEST(LoadTest, ImbalanceIsTheBusiestOverTheMean) {
  const LayerCounts load = view_layer(3, {2, 6, 0, 0});
  EXPECT_EQ(load.selections, 8u);
  EXPECT_DOUBLE_EQ(load.imbalance, 3.0);
  EXPECT_EQ(load.busiest[0], 1u);
  EXPECT_EQ(load.busiest[1], 0u);
  EXPECT_EQ(load.busiest[2], 2u);  // ties to the smaller id
}

TEST(LoadTest, NothingYet) {
  EXPECT_EQ(view_layer(0, {0, 0}).imbalance, 0);
}

TEST(LoadTest, BarsAreRelativeToTheFullest) {
  EXPECT_EQ(counts_bar({8, 4, 0, 1}, 10), "█▄ ▁");
  EXPECT_EQ(counts_bar({8, 8, 2, 2}, 2), "█▂");
}

TEST(TextTest, Numbers) {
  EXPECT_EQ(grouped(0), "0");
  EXPECT_EQ(grouped(999), "999");
  EXPECT_EQ(grouped(1000), "1,000");
  EXPECT_EQ(grouped(1234567), "1,234,567");
  EXPECT_EQ(counted(1, "row"), "1 row");
  EXPECT_EQ(counted(2000, "row"), "2,000 rows");
  EXPECT_EQ(percent(0.1234), "12.3 %");
}

TEST(TextTest, WhatAScreenShows) {
  EXPECT_EQ(fitted("ab\ncd\n", 2, 2), "ab\ncd\n");
  EXPECT_EQ(fitted("abc\n▁▂▃\n", 9, 2), "a…\n▁…\n");
  EXPECT_EQ(fitted("1\n2\n3\n4\n", 3, 80), "1\n2\n(2 more lines)\n");
  EXPECT_EQ(fitted("1\n2\n", 1, 80), "(2 more lines)\n");
  EXPECT_EQ(fitted("", 3, 80), "");
}

TEST(TextTest, CutsCountCharacters) {
  EXPECT_EQ(shortened("Qwen", 4), "Qwen");
  EXPECT_EQ(shortened("Qwen2", 4), "Qwe…");
  EXPECT_EQ(shortened("äöüß", 3), "äö…");
}

TEST(ShortLineTest, SaysWhatIsUnknown) {
  EXPECT_EQ(
      short_line(
          R"({"type":"route","req_id":null,"token_idx":3,"layer":1,"topk_ids":[4,null],"topk_weights":[0.5,null]})"),
      "? token 3 layer 1:  4 0.5000  ? ?");
  EXPECT_EQ(short_line("not json"), "not json");
  EXPECT_EQ(short_line(R"({"type":"route"})"), R"({"type":"route"})");
}

}  // namespace
}  // namespace moetrace::cli
