// The head of every picture: title, subtitle, and one line that says what to see.
#pragma once

#include <string>

#include "plotter/expert_load.hpp"
#include "plotter/scene.hpp"

namespace moetrace::plot {

constexpr double kSceneWidth = 1200;
constexpr double kSideMargin = 28;
constexpr double kHeaderBottom = 104;  // pictures begin below
constexpr Font kLabelFont{13, false};
constexpr Font kLabelFontBold{13, true};

// The least distance in points of the labels of an axis with `ids` ids: half a label is free
// between the widest two.
double id_spacing(uint32_t ids);

struct Header {
  std::string title;
  std::string model;    // is shortened if the subtitle gets too long
  std::string details;  // the rest of the subtitle
  std::string finding;
};

// "12,805 tokens · 60 experts · top-4 · 0 records dropped", and torn records and files where there
// are some. Where nobody knows what was dropped it says nothing of it.
std::string describe_details(const ExpertLoad& load, uint64_t tokens);

void add_header(Scene& scene, const Header& header);

// Instead of a picture, where the trace has no routes.
void add_no_routes(Scene& scene);

}  // namespace moetrace::plot
