// One line of text, laid out by Pango: DejaVu Sans where it has the letters, else another font of
// this machine that fontconfig finds, with the shapes and the direction of their script.
#pragma once

#include <cairo.h>
#include <pango/pango.h>

#include <memory>
#include <string_view>

#include "plotter/scene.hpp"

namespace moetrace::plot {

class TextLine {
 public:
  // `context` is where it will be drawn; nothing: it is only measured.
  TextLine(std::string_view text, const Font& font, cairo_t* context = nullptr);

  [[nodiscard]] double width() const;
  // Some font has each of its letters.
  [[nodiscard]] bool has_all_letters() const;
  // In the context's colour, on a baseline that begins there.
  void draw(double x, double baseline) const;

 private:
  struct Release {
    void operator()(PangoLayout* layout) const;
  };
  cairo_t* context_;
  std::unique_ptr<PangoLayout, Release> layout_;
};

// Above and below the baseline, whatever the text is.
struct FontHeight {
  double ascent, descent;
};
FontHeight font_height(const Font& font);

}  // namespace moetrace::plot
