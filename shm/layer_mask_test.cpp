#include "shm/layer_mask.hpp"

#include <gtest/gtest.h>

namespace moetrace {
namespace {

std::string round_trip(const char* text, std::uint32_t num_layers) {
  const auto mask = parse_layers(text, num_layers);
  return mask ? format_layers(*mask) : "refused";
}

TEST(LayerMask, TextToBitsAndBack) {
  EXPECT_EQ(round_trip("all", 24), "0-23");
  EXPECT_EQ(round_trip("0", 24), "0");
  EXPECT_EQ(round_trip("0,5-7", 24), "0,5-7");
  EXPECT_EQ(round_trip("7,5,6,0", 24), "0,5-7") << "in any order";
  EXPECT_EQ(round_trip("3-3,3", 24), "3");
  EXPECT_EQ(round_trip("0-255", 256), "0-255");
  EXPECT_EQ(round_trip("63-64,127-128,255", 256), "63-64,127-128,255") << "across words";
}

TEST(LayerMask, WhatIsNoSetOfLayersIsRefused) {
  for (const char* text : {"", ",", "0,", ",0", "a", "0-", "-1", "7-5", "24", "0-24", "0 1", "0x1",
                           "1.5", "0;1", "all,1", "4294967296", "0--1", "+1"}) {
    EXPECT_EQ(round_trip(text, 24), "refused") << '"' << text << '"';
  }
}

TEST(LayerMask, CountsAndEnds) {
  EXPECT_EQ(last_layer({}), -1);
  EXPECT_EQ(count_layers({}), 0u);
  EXPECT_EQ(format_layers({}), "");
  for (std::uint32_t layer = 0; layer < 256; ++layer) {
    moetrace_layer_mask mask{};
    add_layer(mask, layer);
    EXPECT_EQ(last_layer(mask), static_cast<int>(layer));
    EXPECT_EQ(count_layers(mask), 1u);
    EXPECT_TRUE(has_layer(mask, layer));
    EXPECT_FALSE(has_layer(mask, layer + 1));
  }
  EXPECT_FALSE(has_layer(first_layers(256), 256));
  EXPECT_EQ(count_layers(intersect(first_layers(100), *parse_layers("90-200", 256))), 10u);
  EXPECT_EQ(format_layers(without(*parse_layers("90-200", 256), first_layers(100))), "100-200");
}

}  // namespace
}  // namespace moetrace
