#include "plotter/scene.hpp"

#include <algorithm>

#include "plotter/cairo_text.hpp"

namespace moetrace::plot {
namespace {

// A surface only to ask for font metrics. One a thread: Cairo contexts are not shared.
cairo_t* measuring_context() {
  thread_local const CairoSurface surface(cairo_image_surface_create(CAIRO_FORMAT_A8, 1, 1));
  thread_local const CairoContext context(cairo_create(surface.get()));
  return context.get();
}

cairo_font_extents_t font_extents(const Font& font) {
  cairo_t* context = measuring_context();
  select_font(context, font);
  cairo_font_extents_t extents;
  cairo_font_extents(context, &extents);
  return extents;
}

// Bytes 10xxxxxx continue a character.
bool starts_character(char byte) {
  return (static_cast<unsigned char>(byte) & 0xC0U) != 0x80U;
}

}  // namespace

double text_width(std::string_view text, const Font& font) {
  cairo_t* context = measuring_context();
  select_font(context, font);
  cairo_text_extents_t extents;
  cairo_text_extents(context, std::string(text).c_str(), &extents);
  return extents.x_advance;
}

double text_height(const Font& font) {
  const auto extents = font_extents(font);
  return extents.ascent + extents.descent;
}

bool font_has(std::string_view text) {
  cairo_t* context = measuring_context();
  select_font(context, Font{});
  cairo_glyph_t* glyphs = nullptr;
  int count = 0;
  const cairo_status_t status = cairo_scaled_font_text_to_glyphs(
      cairo_get_scaled_font(context), 0, 0, text.data(), static_cast<int>(text.size()), &glyphs,
      &count, nullptr, nullptr, nullptr);
  const bool all = status == CAIRO_STATUS_SUCCESS &&
                   std::none_of(glyphs, glyphs + count,
                                [](const cairo_glyph_t& glyph) { return glyph.index == 0; });
  cairo_glyph_free(glyphs);
  return all;
}

Text place_text(std::string text, const Font& font, const Color& color, Align align, double x,
                double y) {
  const auto extents = font_extents(font);
  const double width = text_width(text, font);
  const double left = align == Align::kLeft     ? x
                      : align == Align::kMiddle ? x - width / 2
                                                : x - width;
  return {.text = std::move(text),
          .font = font,
          .color = color,
          .box = {left, y, width, extents.ascent + extents.descent},
          .baseline = y + extents.ascent};
}

std::string shortened(std::string_view text, const Font& font, double width) {
  if (text_width(text, font) <= width) return std::string(text);
  for (size_t kept = text.size(); kept > 0; --kept) {
    const size_t front = (kept + 1) / 2;
    const size_t back = text.size() - kept / 2;
    if (!starts_character(text[front]) || (back < text.size() && !starts_character(text[back]))) {
      continue;
    }
    std::string candidate(text.substr(0, front));
    candidate += "…";
    candidate += text.substr(back);
    if (text_width(candidate, font) <= width) return candidate;
  }
  return "…";
}

}  // namespace moetrace::plot
