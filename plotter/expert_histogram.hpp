// The picture of one load: a bar an expert, the three busiest named, and a line where all bars
// would end if the router were even.
#pragma once

#include <cstdint>
#include <vector>

#include "plotter/expert_load.hpp"
#include "plotter/header.hpp"
#include "plotter/scene.hpp"

namespace moetrace::plot {

struct Histogram {
  std::vector<uint64_t> counts;  // by expert id
  Header header;
};

Histogram histogram_of_all_layers(const ExpertLoad& load);
// `layer` must be one of load.layers.
Histogram histogram_of_layer(const ExpertLoad& load, uint16_t layer);

// All texts lie inside the scene, and no two overlap.
Scene lay_out(const Histogram& histogram);

}  // namespace moetrace::plot
