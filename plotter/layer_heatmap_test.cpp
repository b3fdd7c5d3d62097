#include "plotter/layer_heatmap.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>
#include <variant>

#include "plotter/test_scenes.hpp"

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

// The rectangles of the row at `top`, and the lines through it.
std::pair<double, double> drawn_to(const Scene& scene, double top, double bottom) {
  double cells = 0;
  double lines = 0;
  for (const auto& shape : scene.shapes) {
    if (const auto* rect = std::get_if<Rect>(&shape)) {
      if (rect->box.y >= top && rect->box.bottom() <= bottom && rect->box.x < 700)
        cells = std::max(cells, rect->box.right());
    } else if (const auto& line = std::get<Stroke>(shape); line.y1 > top && line.y1 < bottom) {
      lines = std::max(lines, line.x2);
    }
  }
  return {cells, lines};
}

TEST(LayerHeatmap, ShowsNoCellOfAnExpertThatALayerLacks) {
  ExpertLoad load = make_load(8, 2, 1000);
  EXPECT_FALSE(load.layers_differ());
  EXPECT_FALSE(has_text(lay_out_heatmap(load), "no such expert"));
  load.layers[1].counts.assign({5, 0, 5, 10});
  load.layers[1].top_k = 2;
  const Scene scene = lay_out_heatmap(load);
  expect_readable(scene);
  EXPECT_TRUE(has_text(scene, "no such expert"));
  EXPECT_TRUE(has_text(scene, "4 to 8 experts · top-2 to top-4"));
  // The busiest of 4 experts has half of the selections: twice the uniform load of 4, not of 8.
  EXPECT_TRUE(has_text(scene, "2.0×"));
  // 48 points for two rows, from y = 158 on.
  const auto [first_cells, first_lines] = drawn_to(scene, 158, 182);
  const auto [second_cells, second_lines] = drawn_to(scene, 182, 206);
  EXPECT_EQ(first_lines, 0);
  EXPECT_GT(second_lines, second_cells);
  EXPECT_NEAR(second_lines, first_cells, 1) << "to the right edge";
  EXPECT_LT(second_cells, first_cells);
}

}  // namespace
}  // namespace moetrace::plot
