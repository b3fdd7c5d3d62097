// One line of text, laid out by Pango in DejaVu Sans. Letters that it lacks come from another font
// of this machine, which fontconfig picks, with the shapes and the direction of their script.
#pragma once

#include <cairo.h>
#include <pango/pango.h>

#include <memory>
#include <string_view>

#include "plotter/scene.hpp"

namespace moetrace::plot {

class TextLine {
 public:
  // `context` is where to draw; null to measure only.
  TextLine(std::string_view text, const Font& font, cairo_t* context = nullptr);

  [[nodiscard]] double width() const;
  // Whether the fonts of this machine have each of its letters.
  [[nodiscard]] bool has_all_letters() const;
  // Draws in the context's colour; the baseline begins at (x, baseline).
  void draw(double x, double baseline) const;

 private:
  struct Release {
    void operator()(PangoLayout* layout) const;
  };
  cairo_t* context_;
  std::unique_ptr<PangoLayout, Release> layout_;
};

// Ascent above and descent below the baseline; the same for every text.
struct FontHeight {
  double ascent, descent;
};
FontHeight font_height(const Font& font);

}  // namespace moetrace::plot
