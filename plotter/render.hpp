// Draws a scene with Cairo.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "plotter/scene.hpp"
#include "trace/errors.hpp"

namespace moetrace::plot {

enum class Format { kPng, kSvg, kPdf };

// "png", "svg" or "pdf"; also the extension of the file name.
std::optional<Format> format_named(std::string_view name);
std::string_view name_of(Format format);

// Pixels per point in PNG pictures: enough for a projector and for print.
constexpr double kPngScale = 2;

// The bytes of the picture. `png_scale` applies to PNG only. Error: kDraw.
trace::Result<std::string> render(const Scene& scene, Format format, double png_scale = kPngScale);

}  // namespace moetrace::plot
