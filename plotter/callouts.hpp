// Places the labels of a few bars so that they overlap neither bars nor each other.
#pragma once

#include <vector>

#include "plotter/scene.hpp"

namespace moetrace::plot {

struct CalloutRequest {
  Box bar;       // the bar that the label belongs to
  double width;  // of the label
  double height;
};

struct Callout {
  Box box;
  // From the bar's top to the label; from == to when the label sits right on its bar.
  double from_x = 0, from_y = 0, to_x = 0, to_y = 0;
  bool leader = false;  // the label is far enough from its bar to need that line
};

// No leader runs through another label, and no two meet but where they begin. `bars` are all bars
// of the picture, from left to right; labels stay between `left` and `right`. In the order of the
// requests, which must be few: all orders of placing are tried. Labels take places above the bars,
// so one may end up above the plot's top: the caller then scales the bars down and asks again.
std::vector<Callout> place_callouts(const std::vector<CalloutRequest>& requests,
                                    const std::vector<Box>& bars, double left, double right);

}  // namespace moetrace::plot
