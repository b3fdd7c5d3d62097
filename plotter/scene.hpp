// A picture before it is drawn: shapes and texts with their places. Laying out and drawing are
// apart, so that a test can ask whether anything overlaps.
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
  // Sharing an edge is no overlap.
  [[nodiscard]] bool overlaps(const Box& other) const {
    return x < other.right() && other.x < right() && y < other.bottom() && other.y < bottom();
  }
};

struct Color {
  double red = 0, green = 0, blue = 0;  // 0 to 1
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
  Box box;              // advance width, and ascent to descent of the font
  double baseline = 0;  // y
};

// Shapes are painted in their order, texts on top of them.
struct Scene {
  double width = 0, height = 0;
  std::vector<std::variant<Rect, Stroke>> shapes;
  std::vector<Text> texts;
};

enum class Align { kLeft, kMiddle, kRight };

// What a text takes in DejaVu Sans, and in other fonts where that lacks letters.
double text_width(std::string_view text, const Font& font);
double text_height(const Font& font);

// Whether the fonts of this machine have each letter of a UTF-8 text.
bool font_has(std::string_view text);

// A text whose box starts, is centred, or ends at x, with its top at y.
Text place_text(std::string text, const Font& font, const Color& color, Align align, double x,
                double y);

// The text, or as much of its start and end as fits, with an ellipsis in its middle.
std::string shortened(std::string_view text, const Font& font, double width);

// Okabe and Ito's colours where colour carries meaning: they stay apart for colour-blind eyes and
// in grey.
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
