// The picture of one load: one bar per expert, labels on the three busiest, and a line at the
// uniform load.
#pragma once

#include <cstdint>
#include <vector>

#include "plotter/expert_load.hpp"
#include "plotter/header.hpp"
#include "plotter/scene.hpp"

namespace moetrace::plot {

struct Histogram {
  // By expert id.
  std::vector<uint64_t> counts;
  Header header;
  // False: the sum of layers with different numbers of experts. A uniform load would then not be
  // the same for all ids.
  bool comparable = true;
};

Histogram histogram_of_all_layers(const ExpertLoad& load);
// `layer` must be one of load.layers.
Histogram histogram_of_layer(const ExpertLoad& load, uint16_t layer);

// All texts lie inside the scene, and no two overlap.
Scene lay_out(const Histogram& histogram);

}  // namespace moetrace::plot
