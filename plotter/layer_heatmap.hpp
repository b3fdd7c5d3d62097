// The picture of all layers: one row per layer, one column per expert, and beside it a bar for the
// load of each layer's busiest expert.
#pragma once

#include "plotter/expert_load.hpp"
#include "plotter/scene.hpp"

namespace moetrace::plot {

// All texts lie inside the scene, and no two overlap. The height follows from the number of layers.
Scene lay_out_heatmap(const ExpertLoad& load);

// The colour of a load that is `ratio` times the uniform load: white at 1, orange above, blue
// below. The scale is logarithmic and ends at `limit` doublings on either side. An expert that was
// never picked (0) gets the darkest blue.
Color heat_color(double ratio, double limit);

}  // namespace moetrace::plot
