// Loads to draw, and what every picture must keep to.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>

#include "plotter/expert_load.hpp"
#include "plotter/scene.hpp"

namespace moetrace::plot {

// A load like a router's: most experts near the mean, a few far above it. The same arguments give
// the same load.
inline ExpertLoad make_load(uint32_t experts, int layers, uint64_t scale, unsigned seed = 1) {
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

inline std::string describe(const Text& text) {
  return "\"" + text.text + "\" at " + std::to_string(text.box.x) + ", " +
         std::to_string(text.box.y);
}

// Every text lies inside the scene, and no two overlap.
inline void expect_readable(const Scene& scene) {
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

inline bool has_text(const Scene& scene, const std::string& part) {
  return std::ranges::any_of(
      scene.texts, [&](const Text& text) { return text.text.find(part) != std::string::npos; });
}

}  // namespace moetrace::plot
