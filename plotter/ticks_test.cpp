#include "plotter/ticks.hpp"

#include <gtest/gtest.h>

namespace moetrace::plot {
namespace {

TEST(Ticks, Numbers) {
  EXPECT_EQ(as_share(0.5, 1), "50.0%");
  EXPECT_EQ(as_share(0.00152, 2), "0.15%");
  EXPECT_EQ(as_share(1.0 / 65'535, 2), "0.0015%");
  EXPECT_EQ(as_share(0, 2), "0.00%");
  EXPECT_EQ(as_percent(0.08126, 2), "8.13%");
  EXPECT_EQ(layer_ranges({0, 1, 2, 5, 8, 9}), "0–2, 5, 8, 9");
  EXPECT_EQ(count_step(8'792, 6), 2'000U);
  EXPECT_EQ(count_step(3, 6), 1U);
  EXPECT_EQ(id_step(60, 17, 44), 5U);
  EXPECT_EQ(id_step(256, 4, 44), 16U);
  EXPECT_EQ(id_step(8, 120, 44), 1U);
}

}  // namespace
}  // namespace moetrace::plot
