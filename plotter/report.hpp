// The files that moetrace-plot writes into a folder.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "plotter/expert_load.hpp"
#include "plotter/render.hpp"

namespace moetrace::plot {

struct ReportOptions {
  // Created if missing.
  std::string folder;
  // Adds a histogram of this layer alone.
  std::optional<uint16_t> layer;
  Format format = Format::kPng;
};

// Writes expert_hist.EXT, expert_heatmap.EXT and expert_metrics.json; with a layer N also
// expert_hist_layerN.EXT. Returns their paths. Errors: kNoLayer for a layer that is not in the
// trace, kDraw, kWrite.
Result<std::vector<std::string>> write_report(const ExpertLoad& load, const ReportOptions& options);

}  // namespace moetrace::plot
