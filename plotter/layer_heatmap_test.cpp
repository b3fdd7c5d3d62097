#include "plotter/layer_heatmap.hpp"

#include <gtest/gtest.h>

namespace moetrace::plot {
namespace {

TEST(HeatColor, WhiteIsEvenAndEndsAreDark) {
  const auto brightness = [](const Color& color) { return color.red + color.green + color.blue; };
  const double even = brightness(heat_color(1, 3));
  EXPECT_GT(even, 2.8);
  for (const double ratio : {0.0, 0.125, 8.0, 100.0}) {
    EXPECT_LT(brightness(heat_color(ratio, 3)), 1.0) << ratio;
  }
  EXPECT_GT(heat_color(4, 3).red, heat_color(4, 3).blue);
  EXPECT_LT(heat_color(0.25, 3).red, heat_color(0.25, 3).blue);
}

}  // namespace
}  // namespace moetrace::plot
