// A picture before it is drawn: shapes and texts with their places. Layout is separate from
// drawing, so that a test can check for overlaps.
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace moetrace::plot {

// Lengths are in points, y goes down.
struct Box {
  double x = 0, y = 0, width = 0, height = 0;

  [[nodiscard]] double right() const { return x + width; }
  [[nodiscard]] double bottom() const { return y + height; }
  [[nodiscard]] double middle() const { return x + width / 2; }
  // Boxes that only share an edge don't overlap.
  [[nodiscard]] bool overlaps(const Box& other) const {
    return x < other.right() && other.x < right() && y < other.bottom() && other.y < bottom();
  }
};

// Each component is 0 to 1.
struct Color {
  double red = 0, green = 0, blue = 0;
};

struct Font {
  double size = 11;
  bool bold = false;
};

struct Rect {
  Box box;
  Color color;
};

struct Stroke {
  double x1 = 0, y1 = 0, x2 = 0, y2 = 0;
  Color color;
  double width = 1;
  bool dashed = false;
};

struct Text {
  std::string text;
  Font font;
  Color color;
  // Advance width, and ascent to descent of the font.
  Box box;
  // y
  double baseline = 0;
};

// Shapes are painted in order, texts on top of them.
struct Scene {
  double width = 0, height = 0;
  std::vector<std::variant<Rect, Stroke>> shapes;
  std::vector<Text> texts;
};

enum class Align { kLeft, kMiddle, kRight };

// The size of a text in DejaVu Sans, with other fonts for the letters that it lacks.
double text_width(std::string_view text, const Font& font);
double text_height(const Font& font);

// Whether the fonts of this machine have each letter of a UTF-8 text.
bool font_has(std::string_view text);

// A text whose box starts (kLeft), is centred (kMiddle) or ends (kRight) at x, with its top at y.
Text place_text(std::string text, const Font& font, const Color& color, Align align, double x,
                double y);

// The text, or as much of its start and end as fits `width`, with "…" between them.
std::string shortened(std::string_view text, const Font& font, double width);

// Colours with a meaning come from Okabe and Ito's palette: colour-blind readers can tell them
// apart, also in grey.
namespace palette {
constexpr Color kInk{0.13, 0.15, 0.18};
constexpr Color kSoftInk{0.40, 0.43, 0.47};
constexpr Color kGrid{0.90, 0.91, 0.92};
constexpr Color kAxis{0.45, 0.48, 0.52};
constexpr Color kPaper{1, 1, 1};
constexpr Color kBar{0.56, 0.67, 0.77};
constexpr Color kAccent{0.835, 0.369, 0.0};  // vermilion
}  // namespace palette

}  // namespace moetrace::plot
