#include "daemon/collector/row_batch.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace moetrace {
namespace {

constexpr std::uint64_t kUnknown = RowBatch::kUnknown;

void fill(RowBatch::Room room, std::uint32_t items, std::uint16_t id) {
  std::fill_n(room.ids, items, id);
  std::fill_n(room.weights, items, static_cast<float>(id));
}

TEST(RowBatch, RowsThatFollowEachOtherAreOneRun) {
  RowBatch batch({.top_k = 2, .num_experts = 8});
  batch.begin(100);
  EXPECT_FALSE(batch.in_step(1));
  const RowBatch::Places first = batch.begin_step(1, 6);
  EXPECT_TRUE(batch.in_step(1));
  EXPECT_EQ(first.requests.size(), 6u);
  EXPECT_EQ(first.token_idx[5], kUnknown);
  std::fill(first.requests.begin(), first.requests.end(), 7);
  fill(batch.add(0, 3, 0, 100), 6, 1);
  fill(batch.add(3, 2, 0, 103), 4, 2);
  ASSERT_EQ(batch.runs().size(), 1u);
  EXPECT_EQ(batch.runs()[0].rows, 5u);
  fill(batch.add(0, 1, 3, 105), 2, 3);  // another layer
  batch.begin_step(2, 8).requests[1] = 9;
  fill(batch.add(1, 1, 3, 106), 2, 4);  // another step
  fill(batch.add(3, 1, 3, 107), 2, 5);  // not the next row
  fill(batch.add(4, 1, 3, 109), 2, 6);  // a number left out
  fill(batch.add(5, 3, 3, 110), 6, 7);
  ASSERT_EQ(batch.runs().size(), 5u);
  EXPECT_EQ(batch.runs()[4].skipped, 1u);
  EXPECT_EQ(batch.runs()[4].rows, 4u);
  EXPECT_EQ(batch.rows(), 12u);
  EXPECT_EQ(batch.requests()[batch.runs()[1].place], 7u);
  EXPECT_EQ(batch.requests()[batch.runs()[2].place], 9u);
  EXPECT_EQ(batch.requests()[batch.runs()[3].place], kUnknown);
  const std::vector<std::uint16_t> ids(batch.ids(), batch.ids() + 24);
  EXPECT_EQ(ids, (std::vector<std::uint16_t>{1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3,
                                             4, 4, 5, 5, 6, 6, 7, 7, 7, 7, 7, 7}));
  EXPECT_EQ(batch.weights()[23], 7.0f);
}

TEST(RowBatch, WhatIsCutOffCanBeAddedAgain) {
  RowBatch batch({.top_k = 1, .num_experts = 8});
  batch.begin(0);
  batch.begin_step(0, 20);
  batch.add(0, 4, 0, 2);
  batch.add(4, 4, 0, 6);
  batch.add(0, 1, 1, 12);
  batch.cut_to(6);
  ASSERT_EQ(batch.runs().size(), 1u);
  EXPECT_EQ(batch.runs()[0].rows, 6u);
  batch.add(6, 2, 0, 8);
  EXPECT_EQ(batch.runs()[0].rows, 8u);
  batch.add(0, 1, 1, 12);
  EXPECT_EQ(batch.runs()[1].skipped, 2u);
  batch.cut_to(0);
  EXPECT_TRUE(batch.empty());
  batch.add(0, 1, 1, 2);
  EXPECT_EQ(batch.runs()[0].skipped, 2u);
}

TEST(RowBatch, NumbersThatOutgrowTheirColumns) {
  const auto fits = [](bool wide, std::uint64_t request, std::uint64_t token, std::uint64_t step) {
    RowBatch batch({.top_k = 1, .num_experts = 8, .wide = wide});
    batch.begin(0);
    // Only the last step counts.
    batch.begin_step(0, 1).requests[0] = 0x100000000;
    const RowBatch::Places places = batch.begin_step(step, 3);
    places.requests[2] = request;
    places.token_idx[1] = token;
    return batch.step_fits();
  };
  EXPECT_TRUE(fits(false, 0xFFFFFFFF, 0x7FFFFFFF, 0xFFFFFFFF));
  EXPECT_TRUE(fits(false, kUnknown, kUnknown, 0));
  EXPECT_FALSE(fits(false, 0x100000000, 0, 0));
  EXPECT_FALSE(fits(false, 0, 0x80000000, 0));
  EXPECT_FALSE(fits(false, 0, 0, 0x100000000));
  EXPECT_TRUE(fits(true, 0x100000000, std::uint64_t{1} << 62, 0x100000000));
}

}  // namespace
}  // namespace moetrace
