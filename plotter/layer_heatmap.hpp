// The picture of all layers at once: a row a layer, a column an expert, and beside it how much the
// busiest expert of each layer has to do.
#pragma once

#include "plotter/expert_load.hpp"
#include "plotter/scene.hpp"

namespace moetrace::plot {

// All texts lie inside the scene, and no two overlap. As high as its layers need.
Scene lay_out_heatmap(const ExpertLoad& load);

// The colour of a load of `ratio` times the even one: white at 1, orange above, blue below, on a
// scale of doublings that ends at `limit` doublings to either side. An expert that was never picked
// (0) gets the darkest blue.
Color heat_color(double ratio, double limit);

}  // namespace moetrace::plot
