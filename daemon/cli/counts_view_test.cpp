#include "daemon/cli/counts_view.hpp"

#include <gtest/gtest.h>

namespace moetrace::cli {
namespace {

TEST(CountsViewTest, ImbalanceIsTheBusiestOverTheMean) {
  const LayerCounts layer = view_layer(3, {2, 6, 0, 0});
  EXPECT_EQ(layer.selections, 8u);
  EXPECT_DOUBLE_EQ(layer.imbalance, 3.0);
  EXPECT_EQ(layer.busiest[0], 1u);
  EXPECT_EQ(layer.busiest[1], 0u);
  // Of equal counts the smaller id.
  EXPECT_EQ(layer.busiest[2], 2u);
}

TEST(CountsViewTest, NothingYet) {
  EXPECT_EQ(view_layer(0, {0, 0}).imbalance, 0);
}

TEST(CountsViewTest, BarsAreRelativeToTheFullest) {
  EXPECT_EQ(counts_bar({8, 4, 0, 1}, 10), "█▄ ▁");
  EXPECT_EQ(counts_bar({8, 8, 2, 2}, 2), "█▂");
}

}  // namespace
}  // namespace moetrace::cli
