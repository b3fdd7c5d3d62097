#include "plotter/callouts.hpp"

#include <cmath>
#include <tuple>
#include <utility>

#include "plotter/expert_histogram.hpp"
#include "plotter/test_scenes.hpp"

namespace moetrace::plot {
namespace {

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
      // Side by side they need a quarter of a label between them, or they read as one line.
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

// Neighbours near the edge, the middle one highest: its label must stay left of its right
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

// No leader runs through a label. Leaders have the colour of the busiest bars, and labels lie where
// their texts are.
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

// Neighbours that tie, or nearly tie, at either end and in the middle, in models of all sizes.
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

}  // namespace
}  // namespace moetrace::plot
