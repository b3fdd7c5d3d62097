// All that moetrace-plot leaves in a folder.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "plotter/expert_load.hpp"
#include "plotter/render.hpp"

namespace moetrace::plot {

struct ReportOptions {
  std::string folder;             // is created
  std::optional<uint16_t> layer;  // also this layer's own histogram
  Format format = Format::kPng;
};

// Writes expert_hist.EXT, expert_heatmap.EXT, with a layer N also expert_hist_layerN.EXT, and
// expert_metrics.json. Returns their paths. Errors: kMismatch for a layer that is not in the trace,
// kDraw, kWrite.
Result<std::vector<std::string>> write_report(const ExpertLoad& load, const ReportOptions& options);

}  // namespace moetrace::plot
