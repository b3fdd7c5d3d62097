// Converts a trace between its two forms, and a plain log into a trace.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "daemon/cli/outcome.hpp"
#include "daemon/collector/rows_form.hpp"

namespace moetrace::cli {

struct ConvertOptions {
  // "-": standard input, standard output.
  std::string input;
  // Rows as Arrow if it ends in `.arrows`, JSON Lines if in `.jsonl`, or "-".
  std::string output;
  // Both only for rows as Arrow.
  std::optional<RowWeights> weights;
  std::optional<RowCompression> compression;
  bool lossy = false;
  bool force = false;
  // Of a log that doesn't say it.
  std::optional<std::uint32_t> num_experts;
};

// Prints what was lost. All of the output appears under its name, or nothing.
Outcome convert(const ConvertOptions& options);

}  // namespace moetrace::cli
