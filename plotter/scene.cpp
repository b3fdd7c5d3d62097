#include "plotter/scene.hpp"

#include "plotter/text_line.hpp"

namespace moetrace::plot {
namespace {

// Bytes 10xxxxxx continue a character.
bool starts_character(char byte) {
  return (static_cast<unsigned char>(byte) & 0xC0U) != 0x80U;
}

}  // namespace

double text_width(std::string_view text, const Font& font) {
  return TextLine(text, font).width();
}

double text_height(const Font& font) {
  const FontHeight height = font_height(font);
  return height.ascent + height.descent;
}

bool font_has(std::string_view text) {
  return TextLine(text, Font{}).has_all_letters();
}

Text place_text(std::string text, const Font& font, const Color& color, Align align, double x,
                double y) {
  const FontHeight height = font_height(font);
  const double width = text_width(text, font);
  const double left = align == Align::kLeft     ? x
                      : align == Align::kMiddle ? x - width / 2
                                                : x - width;
  return {.text = std::move(text),
          .font = font,
          .color = color,
          .box = {left, y, width, height.ascent + height.descent},
          .baseline = y + height.ascent};
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
