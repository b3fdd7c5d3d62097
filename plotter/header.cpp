#include "plotter/header.hpp"

#include <algorithm>
#include <cstdint>

#include "common/text.hpp"

namespace moetrace::plot {
namespace {

constexpr Font kTitleFont{24, true};
constexpr Font kSubtitleFont{14.5, false};

// "60 experts · top-4", or "8 to 12 experts · top-2 to top-4".
std::string describe_layers(const ExpertLoad& load, std::optional<uint16_t> layer) {
  uint64_t least = load.num_experts;
  uint64_t most = 0;
  uint32_t least_k = load.top_k;
  uint32_t most_k = 0;
  for (const auto& [number, of] : load.layers) {
    if (layer && number != *layer) continue;
    const uint32_t top_k = of.top_k == 0 ? load.top_k : of.top_k;
    least = std::min<uint64_t>(least, of.counts.size());
    most = std::max<uint64_t>(most, of.counts.size());
    least_k = std::min(least_k, top_k);
    most_k = std::max(most_k, top_k);
  }
  if (most == 0) most = least;
  if (most_k == 0) most_k = least_k;
  return (least < most ? grouped(least) + " to " : "") + counted(most, "expert") + " · top-" +
         (least_k < most_k ? std::to_string(least_k) + " to top-" : "") + std::to_string(most_k);
}

}  // namespace

std::string describe_details(const ExpertLoad& load, uint64_t tokens,
                             std::optional<uint16_t> layer) {
  std::string text = counted(tokens, "token") + " · " + describe_layers(load, layer);
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
