// The head of each picture: title, subtitle, and one line with the main finding.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "plotter/expert_load.hpp"
#include "plotter/scene.hpp"

namespace moetrace::plot {

constexpr double kSceneWidth = 1200;
constexpr double kSideMargin = 28;
// Pictures begin below.
constexpr double kHeaderBottom = 104;
constexpr Font kLabelFont{13, false};
constexpr Font kLabelFontBold{13, true};

// The least distance in points between the labels of an axis with `ids` ids: it leaves half a label
// free between the two widest ones.
double id_spacing(uint32_t ids);

struct Header {
  std::string title;
  // Shortened if the subtitle gets too long.
  std::string model;
  // The rest of the subtitle.
  std::string details;
  std::string finding;
};

// "12,805 tokens · 60 experts · top-4 · 0 records dropped", plus torn records if any and the number
// of files if several. Omits dropped records if the trace does not state them (a plain log). Layers
// that differ are described by ranges: "8 to 12 experts · top-2 to top-4". `layer`: of this one
// only.
std::string describe_details(const ExpertLoad& load, uint64_t tokens,
                             std::optional<uint16_t> layer = std::nullopt);

void add_header(Scene& scene, const Header& header);

// Stands in for a picture of a trace without routes.
void add_no_routes(Scene& scene);

}  // namespace moetrace::plot
