// What all pictures have in common, at all sizes of models.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "plotter/expert_histogram.hpp"
#include "plotter/layer_heatmap.hpp"
#include "plotter/test_scenes.hpp"

namespace moetrace::plot {
namespace {

class PictureOfExperts : public testing::TestWithParam<uint32_t> {};

TEST_P(PictureOfExperts, HistogramIsReadable) {
  for (const uint64_t scale : {uint64_t{1}, uint64_t{12'805}, uint64_t{3'000'000'000}}) {
    for (unsigned seed = 0; seed < 20; ++seed) {
      const ExpertLoad load = make_load(GetParam(), 1, scale, seed);
      expect_readable(lay_out(histogram_of_layer(load, 0)));
      if (testing::Test::HasFailure()) FAIL() << "scale " << scale << ", seed " << seed;
    }
  }
}

TEST_P(PictureOfExperts, HeatmapIsReadable) {
  for (const int layers : {1, 2, 24, 61, 94, 256}) {
    expect_readable(lay_out_heatmap(make_load(GetParam(), layers, 12'805)));
    if (testing::Test::HasFailure()) FAIL() << layers << " layers";
  }
}

// The busiest three side by side, at either end, alone, or all equal: there labels could collide.
TEST_P(PictureOfExperts, LabelsOfNeighboursDoNotOverlap) {
  const uint32_t experts = GetParam();
  for (const uint32_t first : {0U, experts / 2, experts - 3}) {
    for (const uint64_t busy : {101U, 150U, 9'000U}) {
      ExpertLoad load = make_load(experts, 1, 0);
      LayerLoad& layer = load.layers[0];
      layer.counts.assign(experts, 100);
      for (uint32_t id = first; id < first + 3; ++id) layer.counts[id] = busy + id - first;
      expect_readable(lay_out(histogram_of_layer(load, 0)));
      layer.counts.assign(experts, busy);
      expect_readable(lay_out(histogram_of_layer(load, 0)));
      layer.counts.assign(experts, 0);
      layer.counts[first] = busy;
      expect_readable(lay_out(histogram_of_layer(load, 0)));
      expect_readable(lay_out_heatmap(load));
    }
  }
}

// The ids below the axis of experts, for models of all sizes: their texts have all widths.
TEST(Pictures, IdsAreHalfALabelApart) {
  for (const uint32_t experts : {8U, 60U, 100U, 128U, 999U, 1'000U, 4'096U, 10'000U, 65'535U}) {
    const ExpertLoad load = make_load(experts, 1, 12'805);
    for (const Scene& scene : {lay_out(histogram_of_layer(load, 0)), lay_out_heatmap(load)}) {
      const auto axis = std::ranges::find_if(scene.texts, [](const Text& text) {
        return text.text == "expert" || text.text.starts_with("experts; each ");
      });
      ASSERT_NE(axis, scene.texts.end());
      std::vector<Box> ids;
      for (const Text& text : scene.texts) {
        const double above = axis->box.y - text.box.bottom();
        if (above >= 0 && above < 10 && text.box.middle() > 150) ids.push_back(text.box);
      }
      std::ranges::sort(ids, {}, &Box::x);
      size_t seen = 0;
      for (size_t n = 1; n < ids.size(); ++n, ++seen) {
        const double widest = std::max(ids[n - 1].width, ids[n].width);
        // The marks of a heatmap's panel stand in the same row.
        EXPECT_GE(ids[n].x - ids[n - 1].right(), widest / 2) << experts << " experts";
      }
      EXPECT_GT(seen, 3U) << experts;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Experts, PictureOfExperts, testing::Values(8, 16, 60, 64, 128, 256, 512));

TEST(Pictures, WithoutRoutesTheySaySo) {
  ExpertLoad load = make_load(60, 2, 0);
  for (const Scene& scene : {lay_out(histogram_of_all_layers(load)), lay_out_heatmap(load)}) {
    expect_readable(scene);
    EXPECT_TRUE(has_text(scene, "No routes in this trace"));
  }
  load.layers.clear();
  EXPECT_TRUE(has_text(lay_out(histogram_of_all_layers(load)), "No routes in this trace"));
  EXPECT_TRUE(has_text(lay_out_heatmap(load), "No routes in this trace"));
}

// One busy expert among 65,535 is drawn at its place, as wide as the narrowest bar.
TEST(Pictures, OneOfManyExpertsIsSeen) {
  constexpr uint32_t kExperts = 65'535;
  ExpertLoad load = make_load(kExperts, 1, 0);
  load.layers[0].counts.assign(kExperts, 1);
  load.layers[0].counts[40'000] = 1'000;
  const Scene scene = lay_out(histogram_of_layer(load, 0));
  size_t bars = 0;
  for (const auto& shape : scene.shapes) {
    const auto* rect = std::get_if<Rect>(&shape);
    if (rect == nullptr || rect->color.blue == palette::kPaper.blue) continue;
    EXPECT_GE(rect->box.width, 0.9);
    ++bars;
    if (rect->color.red == palette::kAccent.red && rect->box.height > 200) {
      EXPECT_NEAR(rect->box.x, scene.width * 0.61, 20);
    }
  }
  EXPECT_GT(bars, 500U);
  EXPECT_LT(bars, 1'000U);
  for (const Scene& picture : {scene, lay_out_heatmap(load)}) {
    expect_readable(picture);
    EXPECT_TRUE(has_text(picture, "shows the busiest of 1"));
    EXPECT_LT(picture.shapes.size(), 2'000U);
  }
  EXPECT_TRUE(has_text(scene, "0.0015%"));
  EXPECT_TRUE(has_text(lay_out_heatmap(load), "expert 40000 of layer 0"));
  EXPECT_FALSE(has_text(lay_out(histogram_of_layer(make_load(512, 1, 100), 0)), "neighbours"));
}

}  // namespace
}  // namespace moetrace::plot
