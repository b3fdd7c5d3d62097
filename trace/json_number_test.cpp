#include "trace/json_number.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <random>
#include <string>

namespace moetrace::trace {
namespace {

TEST(JsonNumber, TakesTheGrammarOfJsonAndNothingElse) {
  for (const char* good : {"0", "-0", "7", "120", "-1.5", "0.0", "1e5", "1E-5", "0.25e+10"}) {
    EXPECT_TRUE(is_json_number(good)) << good;
  }
  for (const char* bad : {"", "-", "+1", "01", "-01", "1.", ".5", "1e", "1e+", "0x1", "inf", "nan",
                          "NaN", "1 2", "1,", " 1", "1 "}) {
    EXPECT_FALSE(is_json_number(bad)) << bad;
    EXPECT_FALSE(parse_float32(bad)) << bad;
  }
}

TEST(JsonNumber, WholeNumbersAreExactOrRefused) {
  EXPECT_EQ(parse_uint64("0"), 0U);
  EXPECT_EQ(parse_uint64("9999999999999999999"), 9'999'999'999'999'999'999U);
  EXPECT_EQ(parse_uint64("18446744073709551615"), UINT64_MAX);
  for (const char* bad : {"18446744073709551616", "100000000000000000000", "-1", "00", "1.0", ""}) {
    EXPECT_FALSE(parse_uint64(bad)) << bad;
  }
  EXPECT_EQ(parse_int64("-9223372036854775808"), INT64_MIN);
  EXPECT_EQ(parse_int64("9223372036854775807"), INT64_MAX);
  for (const char* bad : {"9223372036854775808", "1e3", "-01", "1.0"}) {
    EXPECT_FALSE(parse_int64(bad)) << bad;
  }
}

// Every float32 comes back from its shortest text, and from its text as a double.
TEST(JsonNumber, RandomFloat32ComeBackExactly) {
  std::mt19937 random(1234);
  for (int round = 0; round < 200'000; ++round) {
    const auto value = std::bit_cast<float>(static_cast<uint32_t>(random()));
    if (!std::isfinite(value)) continue;
    char text[64];
    char* end = std::to_chars(text, text + sizeof text, value).ptr;
    ASSERT_EQ(parse_float32({text, end}), value);
    std::snprintf(text, sizeof text, "%.17g", static_cast<double>(value));
    ASSERT_EQ(parse_float32(text), value) << text;
  }
}

// Decimal texts of any length, most of them no float32: the C++ library is the judge.
TEST(JsonNumber, RandomDecimalsAreRoundedAsTheLibraryRoundsThem) {
  std::mt19937 random(99);
  for (int round = 0; round < 200'000; ++round) {
    std::string text = "0.";
    const auto digits = 1 + random() % 24;
    for (unsigned digit = 0; digit < digits; ++digit) text += std::to_string(random() % 10);
    if (random() % 4 == 0) text += "e-" + std::to_string(random() % 20);
    float expected = 0;
    std::from_chars(text.data(), text.data() + text.size(), expected);
    ASSERT_EQ(parse_float32(text), expected) << text;
  }
}

// Texts at and around the middle of two float32, where one double stands for all of them.
TEST(JsonNumber, MiddlesOfTwoFloat32) {
  EXPECT_EQ(parse_float32("16777217"), 16777216.0F);  // a tie goes to the even one
  EXPECT_EQ(parse_float32("16777219"), 16777220.0F);  // and up, if that is even
  EXPECT_EQ(parse_float32("16777217.000000001"), 16777218.0F);
  EXPECT_EQ(parse_float32("16777216.999999999"), 16777216.0F);
  EXPECT_EQ(parse_float32("1.00000017881393432617187499"), std::nextafter(1.0F, 2.0F));
  // Just above the middle of 0.5 and the next float32, but its nearest double is that middle:
  // rounding the double would give 0.5.
  EXPECT_EQ(parse_float32("0.5000000298023224"), std::nextafter(0.5F, 1.0F));
  for (uint32_t fraction = 0; fraction < 20'000; ++fraction) {
    const double middle = 0.5 + (2.0 * fraction + 1) / (1 << 25);
    char text[32];
    std::snprintf(text, sizeof text, "%.16f", middle);
    float expected = 0;
    std::from_chars(text, text + std::string_view(text).size(), expected);
    ASSERT_EQ(parse_float32(text), expected) << text;
  }
}

}  // namespace
}  // namespace moetrace::trace
