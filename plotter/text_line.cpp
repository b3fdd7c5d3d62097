#include "plotter/text_line.hpp"

#include <pango/pangocairo.h>

#include "plotter/cairo_owners.hpp"

namespace moetrace::plot {
namespace {

struct PangoRelease {
  void operator()(PangoContext* context) const { g_object_unref(context); }
  void operator()(PangoFontDescription* font) const { pango_font_description_free(font); }
  void operator()(PangoFontMetrics* metrics) const { pango_font_metrics_unref(metrics); }
};
using OwnedContext = std::unique_ptr<PangoContext, PangoRelease>;
using OwnedFont = std::unique_ptr<PangoFontDescription, PangoRelease>;
using OwnedMetrics = std::unique_ptr<PangoFontMetrics, PangoRelease>;

// No hinting, grey antialiasing and one language, whatever desktop and locale are set to. So the
// same trace gives the same picture, and a text is as wide as measured at every scale.
OwnedContext pango_context(cairo_t* cairo) {
  OwnedContext context(pango_cairo_create_context(cairo));
  const CairoFontOptions options(cairo_font_options_create());
  cairo_font_options_set_antialias(options.get(), CAIRO_ANTIALIAS_GRAY);
  cairo_font_options_set_hint_style(options.get(), CAIRO_HINT_STYLE_NONE);
  cairo_font_options_set_hint_metrics(options.get(), CAIRO_HINT_METRICS_OFF);
  pango_cairo_context_set_font_options(context.get(), options.get());
  pango_context_set_round_glyph_positions(context.get(), FALSE);
  pango_context_set_base_dir(context.get(), PANGO_DIRECTION_LTR);
  pango_context_set_language(context.get(), pango_language_from_string("en"));
  return context;
}

OwnedFont pango_font(const Font& font) {
  OwnedFont description(pango_font_description_new());
  pango_font_description_set_family_static(description.get(), "DejaVu Sans");
  pango_font_description_set_weight(description.get(),
                                    font.bold ? PANGO_WEIGHT_BOLD : PANGO_WEIGHT_NORMAL);
  pango_font_description_set_absolute_size(description.get(), font.size * PANGO_SCALE);
  return description;
}

// For measuring only. One per thread, because threads must not share a context.
PangoContext* measuring_context() {
  thread_local const CairoSurface surface(cairo_image_surface_create(CAIRO_FORMAT_A8, 1, 1));
  thread_local const CairoContext cairo(cairo_create(surface.get()));
  thread_local const OwnedContext context = pango_context(cairo.get());
  return context.get();
}

double points(int units) {
  return static_cast<double>(units) / PANGO_SCALE;
}

}  // namespace

void TextLine::Release::operator()(PangoLayout* layout) const {
  g_object_unref(layout);
}

TextLine::TextLine(std::string_view text, const Font& font, cairo_t* context) : context_(context) {
  const OwnedContext drawing = context != nullptr ? pango_context(context) : nullptr;
  layout_.reset(pango_layout_new(context != nullptr ? drawing.get() : measuring_context()));
  pango_layout_set_font_description(layout_.get(), pango_font(font).get());
  pango_layout_set_auto_dir(layout_.get(), FALSE);
  pango_layout_set_single_paragraph_mode(layout_.get(), TRUE);
  pango_layout_set_text(layout_.get(), text.data(), static_cast<int>(text.size()));
}

double TextLine::width() const {
  int width = 0;
  pango_layout_get_size(layout_.get(), &width, nullptr);
  return points(width);
}

bool TextLine::has_all_letters() const {
  return pango_layout_get_unknown_glyphs_count(layout_.get()) == 0;
}

void TextLine::draw(double x, double baseline) const {
  cairo_move_to(context_, x, baseline);
  pango_cairo_show_layout_line(context_, pango_layout_get_line_readonly(layout_.get(), 0));
}

FontHeight font_height(const Font& font) {
  const OwnedMetrics metrics(
      pango_context_get_metrics(measuring_context(), pango_font(font).get(), nullptr));
  return {points(pango_font_metrics_get_ascent(metrics.get())),
          points(pango_font_metrics_get_descent(metrics.get()))};
}

}  // namespace moetrace::plot
