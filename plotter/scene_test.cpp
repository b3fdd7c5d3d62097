#include "plotter/scene.hpp"

#include "plotter/expert_histogram.hpp"
#include "plotter/test_scenes.hpp"

namespace moetrace::plot {
namespace {

// Needs a font with these letters: fonts-droid-fallback, which scripts/setup --tests installs.
TEST(Text, LettersThatDejaVuLacksComeFromAnotherFont) {
  EXPECT_TRUE(font_has("通义千问/混合专家模型"));
  EXPECT_FALSE(font_has("\U00013000"));  // a hieroglyph, which all fonts here lack
  const Font font{14.5, false};
  EXPECT_NEAR(text_width("模型模型", font), 4 * 14.5, 2);
  EXPECT_LE(text_width("MoE", font) + text_width("模型", font), text_width("MoE模型", font) + 1);
}

// Numbers after a name in a right-to-left script keep their place.
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

}  // namespace
}  // namespace moetrace::plot
