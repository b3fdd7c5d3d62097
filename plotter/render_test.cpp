#include "plotter/render.hpp"

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "plotter/cairo_owners.hpp"
#include "plotter/expert_histogram.hpp"
#include "plotter/layer_heatmap.hpp"
#include "plotter/test_scenes.hpp"
#include "trace/test_files.hpp"

namespace moetrace::plot {
namespace {

using trace::TestFolder;

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

// Another version of a font library shifts the edges of letters a little; a missing bar or label
// changes far more pixels. MOETRACE_UPDATE_GOLDEN=1 writes the golden picture: look at it before
// you commit it.
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

}  // namespace
}  // namespace moetrace::plot
