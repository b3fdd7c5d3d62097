#include "plotter/header.hpp"

#include <algorithm>

#include "common/text.hpp"

namespace moetrace::plot {
namespace {

constexpr Font kTitleFont{24, true};
constexpr Font kSubtitleFont{14.5, false};

}  // namespace

std::string describe_details(const ExpertLoad& load, uint64_t tokens) {
  std::string text = counted(tokens, "token") + " · " + counted(load.num_experts, "expert") +
                     " · top-" + std::to_string(load.top_k);
  if (load.dropped) text += " · " + counted(*load.dropped, "record") + " dropped";
  if (load.torn.value_or(0) > 0) text += " · " + grouped(*load.torn) + " torn";
  if (load.files > 1) text += " · " + counted(load.files, "file");
  return text;
}

void add_header(Scene& scene, const Header& header) {
  const double room = scene.width - 2 * kSideMargin;
  const auto add = [&](const std::string& text, const Font& font, const Color& color, double y) {
    scene.texts.push_back(
        place_text(shortened(text, font, room), font, color, Align::kLeft, kSideMargin, y));
  };
  const std::string details = " · " + header.details;
  const std::string model =
      shortened(header.model, kSubtitleFont, room - text_width(details, kSubtitleFont));
  add(header.title, kTitleFont, palette::kInk, 20);
  // Isolates a name in a right-to-left script from the text after it.
  constexpr const char* kIsolate = "\u2068";
  constexpr const char* kEndOfIsolate = "\u2069";
  add(kIsolate + model + kEndOfIsolate + details, kSubtitleFont, palette::kSoftInk, 54);
  if (!header.finding.empty()) add(header.finding, kSubtitleFont, palette::kInk, 77);
}

double id_spacing(uint32_t ids) {
  constexpr double kLeast = 44;
  return std::max(kLeast, 1.5 * text_width(std::to_string(ids - 1), kLabelFont));
}

void add_no_routes(Scene& scene) {
  const double y = (kHeaderBottom + scene.height) / 2 - 12;
  scene.texts.push_back(place_text("No routes in this trace", {18, false}, palette::kSoftInk,
                                   Align::kMiddle, scene.width / 2, y));
}

}  // namespace moetrace::plot
