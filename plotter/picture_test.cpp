#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <numeric>
#include <random>
#include <string>
#include <tuple>

#include "plotter/cairo_owners.hpp"
#include "plotter/callouts.hpp"
#include "plotter/expert_histogram.hpp"
#include "plotter/layer_heatmap.hpp"
#include "plotter/render.hpp"
#include "plotter/report.hpp"
#include "trace/test_files.hpp"
#include "plotter/ticks.hpp"

namespace moetrace::plot {
namespace {

using trace::read_bytes;
using trace::TestFolder;

// A load as routers make them: most experts near the middle, a few far above. The same for the same
// arguments.
ExpertLoad make_load(uint32_t experts, int layers, uint64_t scale, unsigned seed = 1) {
  ExpertLoad load{.model_id = "some-lab/Some-MoE-57B-A14B",
                  .num_experts = experts,
                  .top_k = 4,
                  .files = 1,
                  .layers = {},
                  .tokens = scale,
                  .dropped = 0,
                  .torn = 0};
  std::mt19937 random(seed);
  for (int layer = 0; layer < layers; ++layer) {
    LayerLoad& made = load.layers[static_cast<uint16_t>(layer)];
    made.rows = scale;
    for (uint32_t id = 0; id < experts; ++id) {
      const uint64_t spread = random() % 100;
      made.counts.push_back(scale * (spread + (random() % 29 == 0 ? 300 : 20)) / 100);
    }
  }
  return load;
}

std::string describe(const Text& text) {
  return "\"" + text.text + "\" at " + std::to_string(text.box.x) + ", " +
         std::to_string(text.box.y);
}

// Nothing cut, nothing overlapping.
void expect_readable(const Scene& scene) {
  ASSERT_FALSE(scene.texts.empty());
  for (size_t a = 0; a < scene.texts.size(); ++a) {
    const Text& text = scene.texts[a];
    EXPECT_TRUE(text.box.x >= 0 && text.box.y >= 0 && text.box.right() <= scene.width &&
                text.box.bottom() <= scene.height)
        << describe(text) << " is cut";
    for (size_t b = a + 1; b < scene.texts.size(); ++b) {
      EXPECT_FALSE(text.box.overlaps(scene.texts[b].box))
          << describe(text) << " overlaps " << describe(scene.texts[b]);
    }
  }
}

bool has_text(const Scene& scene, const std::string& part) {
  return std::ranges::any_of(
      scene.texts, [&](const Text& text) { return text.text.find(part) != std::string::npos; });
}

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

// The busiest three side by side, at either end, alone, or all equal: where labels would collide.
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

// The numbers below the axis of experts: of all sizes of a model, which take texts of all widths.
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

TEST(Callouts, StandAboveTheBarsAndApart) {
  std::vector<Box> bars;
  for (int bar = 0; bar < 40; ++bar) bars.push_back({bar * 10.0, 100.0 - bar % 7, 8, 200});
  std::vector<CalloutRequest> requests;
  for (const int bar : {20, 21, 22}) requests.push_back({bars[static_cast<size_t>(bar)], 90, 30});
  const auto callouts = place_callouts(requests, bars, 0, 400);
  ASSERT_EQ(callouts.size(), 3U);
  for (size_t a = 0; a < 3; ++a) {
    for (const Box& bar : bars) EXPECT_FALSE(callouts[a].box.overlaps(bar));
    for (size_t b = a + 1; b < 3; ++b) {
      // Side by side with a quarter of a label between them, else one line would be read.
      const Box& other = callouts[b].box;
      const double between =
          std::max(callouts[a].box.x, other.x) - 90 - std::min(callouts[a].box.x, other.x);
      const double above = std::abs(callouts[a].box.y - other.y) - 30;
      EXPECT_TRUE(above >= 5 || between >= 22.5) << between << " aside, " << above << " above";
    }
    EXPECT_GE(callouts[a].box.x, 0);
    EXPECT_LE(callouts[a].box.right(), 400);
  }
}

// Neighbours near the edge, the middle one highest: its label must not go behind its right
// neighbour's.
TEST(Callouts, KeepTheOrderOfTheirBars) {
  std::vector<Box> bars;
  for (int bar = 0; bar < 60; ++bar) bars.push_back({bar * 10.0, 160, 8, 100});
  for (const auto& [bar, top] : {std::pair{5, 113.0}, {7, 100.0}, {9, 117.0}}) {
    bars[static_cast<size_t>(bar)] = {bar * 10.0, top, 8, 260 - top};
  }
  const auto callouts =
      place_callouts({{bars[7], 62, 20}, {bars[5], 62, 20}, {bars[9], 62, 20}}, bars, 4, 600);
  EXPECT_LT(callouts[1].box.middle(), callouts[0].box.middle());
  EXPECT_LT(callouts[0].box.middle(), callouts[2].box.middle());
}

// Whether a leader runs through a label that is not its own: the labels are drawn where their texts
// are, leaders in the colour of the busiest bars.
void expect_free_leaders(const Scene& scene) {
  for (const auto& shape : scene.shapes) {
    const auto* leader = std::get_if<Stroke>(&shape);
    if (leader == nullptr || leader->color.red != palette::kAccent.red) continue;
    for (const Text& text : scene.texts) {
      for (int step = 0; step <= 100; ++step) {
        const double x = leader->x1 + (leader->x2 - leader->x1) * step / 100;
        const double y = leader->y1 + (leader->y2 - leader->y1) * step / 100;
        const Box& box = text.box;
        const bool inside = x > box.x && x < box.right() && y > box.y && y < box.bottom() - 2;
        ASSERT_FALSE(inside) << "a leader runs through " << describe(text);
      }
    }
  }
}

// Neighbours that tie, or nearly, at either end and in the middle, in models of all sizes.
TEST(Callouts, LeadersRunThroughNoLabel) {
  for (const uint32_t experts : {3U, 8U, 60U, 128U, 512U, 1'000U, 65'535U}) {
    for (const uint32_t first : {0U, experts / 2 - 1, experts - 3}) {
      for (const auto& [a, b, c] : {std::tuple{50U, 50U, 50U},
                                    {45U, 50U, 49U},
                                    {50U, 40U, 30U},
                                    {30U, 40U, 50U},
                                    {50U, 30U, 50U}}) {
        for (const uint64_t others : {0U, 3U, 29U}) {
          ExpertLoad load = make_load(experts, 1, 0);
          LayerLoad& layer = load.layers[0];
          layer.counts.assign(experts, others);
          layer.counts[first] = a;
          layer.counts[first + 1] = b;
          layer.counts[first + 2] = c;
          const Scene scene = lay_out(histogram_of_layer(load, 0));
          expect_readable(scene);
          expect_free_leaders(scene);
          if (testing::Test::HasFailure()) {
            FAIL() << experts << " experts, from " << first << ": " << a << " " << b << " " << c;
          }
        }
      }
    }
  }
}

TEST(Histogram, SaysHowManyTieWithTheThird) {
  ExpertLoad load = make_load(60, 1, 0);
  load.layers[0].counts.assign(60, 1);
  for (uint32_t id = 0; id < 4; ++id) load.layers[0].counts[id] = 50;
  EXPECT_TRUE(has_text(lay_out(histogram_of_layer(load, 0)),
                       "The three busiest experts (1 more ties with the third) take"));
}

// One busy expert among so many is seen at its place, as wide as a bar must be.
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

// Needs a font with these letters: fonts-droid-fallback, which scripts/setup --tests installs.
TEST(Text, LettersThatDejaVuLacksComeFromAnotherFont) {
  EXPECT_TRUE(font_has("通义千问/混合专家模型"));
  EXPECT_FALSE(font_has("\U00013000"));  // a hieroglyph, of which no font here knows
  const Font font{14.5, false};
  EXPECT_NEAR(text_width("模型模型", font), 4 * 14.5, 2);
  EXPECT_LE(text_width("MoE", font) + text_width("模型", font), text_width("MoE模型", font) + 1);
}

// Numbers behind a name in a script from right to left keep their place.
TEST(Text, NamesFromRightToLeftStayApart) {
  ExpertLoad load = make_load(60, 1, 100);
  load.model_id = "מודל/v2";
  const Scene scene = lay_out(histogram_of_layer(load, 0));
  expect_readable(scene);
  EXPECT_TRUE(font_has(load.model_id));
  EXPECT_TRUE(font_has("\u2068" + load.model_id + "\u2069"));
  EXPECT_EQ(text_width("\u2068" + load.model_id + "\u2069", {}), text_width(load.model_id, {}));
}

TEST(Text, NameWithANewlineIsOneLine) {
  ExpertLoad load = make_load(60, 1, 100);
  load.model_id = "two\nlines";
  expect_readable(lay_out(histogram_of_layer(load, 0)));
  EXPECT_GT(text_width("two\nlines", {}), text_width("twolines", {}));
}

TEST(Ticks, Numbers) {
  EXPECT_EQ(as_share(0.5, 1), "50.0%");
  EXPECT_EQ(as_share(0.00152, 2), "0.15%");
  EXPECT_EQ(as_share(1.0 / 65'535, 2), "0.0015%");
  EXPECT_EQ(as_share(0, 2), "0.00%");
  EXPECT_EQ(with_thousands(0), "0");
  EXPECT_EQ(with_thousands(999), "999");
  EXPECT_EQ(with_thousands(1000), "1,000");
  EXPECT_EQ(with_thousands(1234567890), "1,234,567,890");
  EXPECT_EQ(as_percent(0.08126, 2), "8.13%");
  EXPECT_EQ(counted(1, "token"), "1 token");
  EXPECT_EQ(layer_ranges({0, 1, 2, 5, 8, 9}), "0–2, 5, 8, 9");
  EXPECT_EQ(count_step(8'792, 6), 2'000U);
  EXPECT_EQ(count_step(3, 6), 1U);
  EXPECT_EQ(id_step(60, 17, 44), 5U);
  EXPECT_EQ(id_step(256, 4, 44), 16U);
  EXPECT_EQ(id_step(8, 120, 44), 1U);
}

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

// A decoded picture, red, green and blue of each pixel.
struct Pixels {
  int width = 0, height = 0;
  std::vector<uint8_t> values;
};

Pixels decode(const std::string& path) {
  const CairoSurface surface(cairo_image_surface_create_from_png(path.c_str()));
  if (cairo_surface_status(surface.get()) != CAIRO_STATUS_SUCCESS) return {};
  Pixels pixels{cairo_image_surface_get_width(surface.get()),
                cairo_image_surface_get_height(surface.get()),
                {}};
  const unsigned char* data = cairo_image_surface_get_data(surface.get());
  const int stride = cairo_image_surface_get_stride(surface.get());
  for (int y = 0; y < pixels.height; ++y) {
    for (int x = 0; x < pixels.width; ++x) {
      for (int channel = 0; channel < 3; ++channel) {
        pixels.values.push_back(data[y * stride + 4 * x + channel]);
      }
    }
  }
  return pixels;
}

// Another version of a font library moves edges of letters a little; a missing bar or label moves
// much more. MOETRACE_UPDATE_GOLDEN=1 writes the picture anew: look at it before it is committed.
void expect_like_golden(const Scene& scene, const std::string& name) {
  const std::string golden = std::string(MOETRACE_PLOTTER_TESTDATA) + "/" + name;
  const auto bytes = render(scene, Format::kPng, 0.75);
  ASSERT_TRUE(bytes) << bytes.error().message;
  const TestFolder folder;
  const std::string actual = folder.write(name, *bytes);
  if (std::getenv("MOETRACE_UPDATE_GOLDEN") != nullptr)
    std::filesystem::copy_file(actual, golden, std::filesystem::copy_options::overwrite_existing);

  const Pixels expected_pixels = decode(golden);
  const Pixels actual_pixels = decode(actual);
  ASSERT_GT(expected_pixels.width, 0) << golden;
  ASSERT_EQ(actual_pixels.width, expected_pixels.width);
  ASSERT_EQ(actual_pixels.height, expected_pixels.height);
  size_t different = 0;
  for (size_t at = 0; at < expected_pixels.values.size(); ++at) {
    different += std::abs(actual_pixels.values[at] - expected_pixels.values[at]) > 48 ? 1 : 0;
  }
  const double share =
      static_cast<double>(different) / static_cast<double>(expected_pixels.values.size());
  EXPECT_LT(share, 0.001) << name << " differs from its golden picture";
}

TEST(Golden, Histogram) {
  expect_like_golden(lay_out(histogram_of_layer(make_load(60, 1, 12'805), 0)),
                     "golden_hist_60.png");
}

TEST(Golden, Heatmap) {
  expect_like_golden(lay_out_heatmap(make_load(60, 24, 12'805)), "golden_heatmap_60.png");
}

TEST(Render, FormatsBeginWithTheirMagic) {
  const Scene scene = lay_out(histogram_of_all_layers(make_load(8, 2, 100)));
  const auto begins_with = [&](Format format, const std::string& magic) {
    const auto bytes = render(scene, format);
    return bytes && bytes->starts_with(magic) && bytes->size() > 2'000;
  };
  EXPECT_TRUE(begins_with(Format::kPng, "\x89PNG\r\n\x1a\n"));
  EXPECT_TRUE(begins_with(Format::kSvg, "<?xml"));
  EXPECT_TRUE(begins_with(Format::kPdf, "%PDF-1."));
}

TEST(Report, WritesEveryFileAndNoOther) {
  const TestFolder folder;
  const std::string out = folder.at("deep/er");
  const auto written =
      write_report(make_load(60, 3, 100), {.folder = out, .layer = 2, .format = Format::kSvg});
  ASSERT_TRUE(written) << written.error().message;
  EXPECT_EQ(*written, (std::vector<std::string>{
                          out + "/expert_hist.svg", out + "/expert_heatmap.svg",
                          out + "/expert_hist_layer2.svg", out + "/expert_metrics.json"}));
  EXPECT_TRUE(read_bytes(out + "/expert_hist.svg").starts_with("<?xml"));
  size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(out)) {
    files += entry.is_regular_file() ? 1 : 0;
  }
  EXPECT_EQ(files, 4U);
}

TEST(Report, SaysWhyItCannotWrite) {
  const TestFolder folder;
  const ExpertLoad load = make_load(8, 3, 100);
  const auto error_of = [&](const ReportOptions& options) {
    const auto written = write_report(load, options);
    return written ? "" : written.error().message;
  };
  EXPECT_EQ(error_of({.folder = folder.at("out"), .layer = 7}),
            "layer 7 is not in the trace; it has layers 0–2");
  const std::string file = folder.write("file", "");
  EXPECT_EQ(error_of({.folder = file}), file + ": Not a directory");
  // A folder where a picture should go: nothing half-written stays behind.
  std::filesystem::create_directories(folder.at("out/expert_hist.png"));
  EXPECT_EQ(error_of({.folder = folder.at("out")}),
            folder.at("out/expert_hist.png") + ": Is a directory");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.at("out")), {}), 1);
}

}  // namespace
}  // namespace moetrace::plot
