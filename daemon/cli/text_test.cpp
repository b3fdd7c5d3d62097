#include "common/text.hpp"

#include <gtest/gtest.h>

namespace moetrace {
namespace {

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

}  // namespace
}  // namespace moetrace
