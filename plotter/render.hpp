// Draws a scene with Cairo.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "trace/errors.hpp"
#include "plotter/scene.hpp"

namespace moetrace::plot {

enum class Format { kPng, kSvg, kPdf };

// "png", "svg", "pdf"; also the ending of the file's name.
std::optional<Format> format_named(std::string_view name);
std::string_view name_of(Format format);

// Pixels a point in PNG pictures: sharp on a projector and in print.
constexpr double kPngScale = 2;

// The bytes of the picture. Error: kDraw. `png_scale` is for PNG alone.
trace::Result<std::string> render(const Scene& scene, Format format, double png_scale = kPngScale);

}  // namespace moetrace::plot
