#include "plotter/render.hpp"

#include <cairo-pdf.h>
#include <cairo-svg.h>

#include <cmath>

#include "plotter/cairo_owners.hpp"
#include "plotter/text_line.hpp"

namespace moetrace::plot {
namespace {

using trace::Error;
using trace::ErrorCode;

cairo_status_t append(void* bytes, const unsigned char* data, unsigned int length) {
  static_cast<std::string*>(bytes)->append(reinterpret_cast<const char*>(data), length);
  return CAIRO_STATUS_SUCCESS;
}

void set_color(cairo_t* context, const Color& color) {
  cairo_set_source_rgb(context, color.red, color.green, color.blue);
}

void draw(cairo_t* context, const Rect& rect) {
  set_color(context, rect.color);
  cairo_rectangle(context, rect.box.x, rect.box.y, rect.box.width, rect.box.height);
  cairo_fill(context);
}

void draw(cairo_t* context, const Stroke& stroke) {
  constexpr double kDashes[] = {5, 4};
  set_color(context, stroke.color);
  cairo_set_line_width(context, stroke.width);
  cairo_set_dash(context, kDashes, stroke.dashed ? 2 : 0, 0);
  cairo_move_to(context, stroke.x1, stroke.y1);
  cairo_line_to(context, stroke.x2, stroke.y2);
  cairo_stroke(context);
}

void draw(cairo_t* context, const Text& text) {
  set_color(context, text.color);
  TextLine(text.text, text.font, context).draw(text.box.x, text.baseline);
}

void draw(cairo_t* context, const Scene& scene) {
  set_color(context, palette::kPaper);
  cairo_paint(context);
  for (const auto& shape : scene.shapes) {
    std::visit([&](const auto& known) { draw(context, known); }, shape);
  }
  for (const Text& text : scene.texts) draw(context, text);
}

CairoSurface make_surface(const Scene& scene, Format format, double png_scale, std::string& bytes) {
  switch (format) {
    case Format::kSvg:
      return CairoSurface(
          cairo_svg_surface_create_for_stream(append, &bytes, scene.width, scene.height));
    case Format::kPdf:
      return CairoSurface(
          cairo_pdf_surface_create_for_stream(append, &bytes, scene.width, scene.height));
    case Format::kPng:
      break;
  }
  return CairoSurface(cairo_image_surface_create(
      CAIRO_FORMAT_RGB24, static_cast<int>(std::lround(scene.width * png_scale)),
      static_cast<int>(std::lround(scene.height * png_scale))));
}

}  // namespace

std::optional<Format> format_named(std::string_view name) {
  for (const Format format : {Format::kPng, Format::kSvg, Format::kPdf}) {
    if (name == name_of(format)) return format;
  }
  return std::nullopt;
}

std::string_view name_of(Format format) {
  switch (format) {
    case Format::kSvg:
      return "svg";
    case Format::kPdf:
      return "pdf";
    case Format::kPng:
      break;
  }
  return "png";
}

trace::Result<std::string> render(const Scene& scene, Format format, double png_scale) {
  std::string bytes;
  cairo_status_t status = CAIRO_STATUS_SUCCESS;
  {
    const CairoSurface surface = make_surface(scene, format, png_scale, bytes);
    const CairoContext context(cairo_create(surface.get()));
    if (format == Format::kPng) cairo_scale(context.get(), png_scale, png_scale);
    draw(context.get(), scene);
    status = cairo_status(context.get());
    if (status == CAIRO_STATUS_SUCCESS && format == Format::kPng) {
      status = cairo_surface_write_to_png_stream(surface.get(), append, &bytes);
    }
    // Finishing the surface writes SVG and PDF, so read the final status after it.
    cairo_surface_finish(surface.get());
    if (status == CAIRO_STATUS_SUCCESS) status = cairo_surface_status(surface.get());
  }
  if (status != CAIRO_STATUS_SUCCESS) {
    return Error{ErrorCode::kDraw,
                 std::string("can't draw the picture: ") + cairo_status_to_string(status)};
  }
  return bytes;
}

}  // namespace moetrace::plot
