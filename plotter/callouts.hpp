// Places the labels of a few bars so that they overlap neither a bar nor each other.
#pragma once

#include <vector>

#include "plotter/scene.hpp"

namespace moetrace::plot {

struct CalloutRequest {
  // The bar that the label belongs to.
  Box bar;
  // Of the label.
  double width;
  double height;
};

struct Callout {
  Box box;
  // The leader: a line from the bar's top to the label.
  double from_x = 0, from_y = 0, to_x = 0, to_y = 0;
  // Whether the label is far enough from its bar to need the leader.
  bool leader = false;
};

// Returns the callouts in the order of the requests. No leader runs through another label, and two
// leaders meet only where they begin. `bars` are all bars of the picture, from left to right;
// labels stay between `left` and `right`. Pass few requests: the search tries all orders of placing
// them. A label may end above the plot's top; then scale the bars down and call again.
std::vector<Callout> place_callouts(const std::vector<CalloutRequest>& requests,
                                    const std::vector<Box>& bars, double left, double right);

}  // namespace moetrace::plot
