#include "plotter/expert_histogram.hpp"

#include "plotter/test_scenes.hpp"

namespace moetrace::plot {
namespace {

TEST(Histogram, SaysWhatItShows) {
  ExpertLoad load = make_load(60, 24, 12'805);
  load.dropped = 1'234;
  const Scene all = lay_out(histogram_of_all_layers(load));
  for (const char* part :
       {"24 layers (0–23)", "some-lab/Some-MoE-57B-A14B", "12,805 tokens", "60 experts", "top-4",
        "1,234 records dropped", "entropy", "uniform", "1.67%", "selections", "share"}) {
    EXPECT_TRUE(has_text(all, part)) << part;
  }
  EXPECT_TRUE(has_text(lay_out(histogram_of_layer(load, 7)), "layer 7"));
  load.dropped = load.torn = std::nullopt;
  EXPECT_FALSE(has_text(lay_out(histogram_of_all_layers(load)), "dropped"));
}

TEST(Histogram, NamesTheBusiestThree) {
  ExpertLoad load = make_load(60, 1, 0);
  LayerLoad& layer = load.layers[0];
  layer.counts.assign(60, 10);
  layer.counts[43] = 30;
  layer.counts[5] = 40;
  layer.counts[58] = 20;
  const Scene scene = lay_out(histogram_of_layer(load, 0));
  for (const char* part : {"expert 43", "expert 5", "expert 58", "6.06% · 40"}) {
    EXPECT_TRUE(has_text(scene, part)) << part;
  }
  size_t highlighted = 0;
  for (const auto& shape : scene.shapes) {
    const auto* rect = std::get_if<Rect>(&shape);
    if (rect != nullptr && rect->color.red == palette::kAccent.red) ++highlighted;
  }
  EXPECT_EQ(highlighted, 3U);
}

TEST(Histogram, LongNamesAreShortenedInTheirMiddle) {
  ExpertLoad load = make_load(60, 1, 100);
  load.model_id = "/home/someone/models/" + std::string(300, 'x') + "/Qwen1.5-MoE-A2.7B-Chat";
  const Scene scene = lay_out(histogram_of_layer(load, 0));
  expect_readable(scene);
  EXPECT_TRUE(has_text(scene, "…"));
  EXPECT_TRUE(has_text(scene, "A2.7B-Chat\u2069 · 100 tokens"));
}

TEST(Histogram, SaysHowManyTieWithTheThird) {
  ExpertLoad load = make_load(60, 1, 0);
  load.layers[0].counts.assign(60, 1);
  for (uint32_t id = 0; id < 4; ++id) load.layers[0].counts[id] = 50;
  EXPECT_TRUE(has_text(lay_out(histogram_of_layer(load, 0)),
                       "The three busiest experts (1 more ties with the third) take"));
}

TEST(Histogram, SumsOfLayersThatDifferHaveNoUniformLoad) {
  ExpertLoad load = make_load(8, 2, 1000);
  EXPECT_TRUE(has_text(lay_out(histogram_of_all_layers(load)), "uniform"));
  load.layers[1].counts.assign({5, 0, 5, 10});
  const Scene all = lay_out(histogram_of_all_layers(load));
  expect_readable(all);
  EXPECT_FALSE(
      std::ranges::any_of(all.texts, [](const Text& text) { return text.text == "uniform"; }));
  EXPECT_TRUE(has_text(all, "layers differ in their experts"));
  const Scene one = lay_out(histogram_of_layer(load, 1));
  EXPECT_TRUE(has_text(one, "4 experts"));
  EXPECT_TRUE(has_text(one, "uniform"));
}

}  // namespace
}  // namespace moetrace::plot
