#include "daemon/collector/row_batch.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace moetrace {
namespace {

constexpr std::uint64_t kUnknown = RowBatch::kUnknown;

RowBatch::Run run(std::uint32_t rows, std::uint64_t request, std::uint64_t token,
                  std::uint64_t step = 1, std::uint16_t layer = 0) {
  return {.rows = rows,
          .skipped = 0,
          .step = step,
          .request = request,
          .token_idx = token,
          .layer = layer};
}

void fill(RowBatch::Room room, std::uint32_t items, std::uint16_t id) {
  std::fill_n(room.ids, items, id);
  std::fill_n(room.weights, items, static_cast<float>(id));
}

TEST(RowBatch, RowsThatFollowEachOtherAreOneRun) {
  RowBatch batch({.top_k = 2, .num_experts = 8});
  batch.begin(100);
  fill(batch.add(run(3, 7, 10), 100), 6, 1);
  fill(batch.add(run(2, 7, 13), 103), 4, 2);
  ASSERT_EQ(batch.runs().size(), 1u);
  EXPECT_EQ(batch.runs()[0].rows, 5u);
  fill(batch.add(run(1, 7, 16), 105), 2, 3);        // not the next position
  fill(batch.add(run(1, 8, 17), 106), 2, 4);        // another request
  fill(batch.add(run(1, 8, 18, 2), 107), 2, 5);     // another step
  fill(batch.add(run(1, 8, 19, 2, 3), 108), 2, 6);  // another layer
  fill(batch.add(run(1, 8, 20, 2, 3), 110), 2, 7);  // a number left out
  fill(batch.add(run(1, kUnknown, kUnknown), 111), 2, 8);
  fill(batch.add(run(2, kUnknown, kUnknown), 112), 4, 9);
  ASSERT_EQ(batch.runs().size(), 7u);
  EXPECT_EQ(batch.runs()[5].skipped, 1u);
  EXPECT_EQ(batch.runs()[6].rows, 3u);
  EXPECT_EQ(batch.rows(), 13u);
  const std::vector<std::uint16_t> ids(batch.ids(), batch.ids() + 26);
  EXPECT_EQ(ids, (std::vector<std::uint16_t>{1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 4,
                                             4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 9, 9}));
  EXPECT_EQ(batch.weights()[25], 9.0f);
}

TEST(RowBatch, WhatIsCutOffCanBeAddedAgain) {
  RowBatch batch({.top_k = 1, .num_experts = 8});
  batch.begin(0);
  batch.add(run(4, 0, 0), 2);
  batch.add(run(4, 0, 4), 6);
  batch.add(run(1, 1, 0), 12);
  batch.cut_to(6);
  ASSERT_EQ(batch.runs().size(), 1u);
  EXPECT_EQ(batch.runs()[0].rows, 6u);
  batch.add(run(2, 0, 6), 8);
  EXPECT_EQ(batch.runs()[0].rows, 8u);
  batch.add(run(1, 1, 0), 12);
  EXPECT_EQ(batch.runs()[1].skipped, 2u);
  batch.cut_to(0);
  EXPECT_TRUE(batch.empty());
  batch.add(run(1, 1, 0), 2);
  EXPECT_EQ(batch.runs()[0].skipped, 2u);
}

TEST(RowBatch, NumbersThatOutgrowTheirColumns) {
  const RowBatch narrow({.top_k = 1, .num_experts = 8});
  EXPECT_TRUE(narrow.fits(0xFFFFFFFF, 0x7FFFFFFF, 0xFFFFFFFF));
  EXPECT_TRUE(narrow.fits(kUnknown, kUnknown, 0));
  EXPECT_FALSE(narrow.fits(0x100000000, 0, 0));
  EXPECT_FALSE(narrow.fits(0, 0x80000000, 0));
  EXPECT_FALSE(narrow.fits(0, 0, 0x100000000));
  const RowBatch wide({.top_k = 1, .num_experts = 8, .wide = true});
  EXPECT_TRUE(wide.fits(0x100000000, std::uint64_t{1} << 62, 0x100000000));
}

}  // namespace
}  // namespace moetrace
