// What moetraced is told to do. settings.hpp says from where.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "daemon/collector/rows_form.hpp"
#include "daemon/config/quantities.hpp"
#include "daemon/config/thread_count.hpp"
#include "shm/abi.h"

namespace moetrace {

// Where rows go: to lines, or to a rows file beside them.
enum class RowsPlace { kLines, kArrow };

// Their names in settings.
constexpr std::array<const char*, 2> word_list(RowsPlace) {
  return {"json", "arrow"};
}
constexpr std::array<const char*, 3> word_list(RowWeights) {
  return {"float32", "float16", "none"};
}
constexpr std::array<const char*, 4> word_list(RowCompression) {
  return {"fast", "small", "lz4", "none"};
}

struct CollectorOptions {
  std::string session = "default";
  // The ring directory.
  std::string directory;
  // One file for each trace goes here, unless `output` is set. Both are templates
  // (output_template.hpp).
  std::string output_dir = ".";
  std::string output;
  // Endpoints. Empty: the default one; {"none"}: publish nothing.
  std::vector<std::string> publish;
  // "": no pictures.
  std::string plot_dir;
  // Only these layers are written.
  moetrace_layer_mask layers{{~0ull, ~0ull, ~0ull, ~0ull}};
  RowsPlace rows = RowsPlace::kLines;
  // The form of a rows file.
  RowWeights weights = RowWeights::kFloat32;
  RowCompression compression = RowCompression::kFast;
  // Threads that make the text of rows as lines, the collector's own included.
  ThreadCount encoder_threads;
  // A part of a trace ends when its files together have this size, or this age; of a trace's parts
  // only the newest ones stay.
  ByteSize max_file_size;
  TimeSpan max_age;
  KeptCount keep;
  // Recording stops before the trace files together are larger (size_limit.hpp).
  ByteSize max_total_size;
  bool once = false;
  // Print only errors and warnings.
  bool quiet = false;
  // Not a setting, but a descriptor of the program that started this one. -1: none.
  int ready_fd = -1;

  // The reader of the descriptor learns there when a trace begins.
  bool prints_only_faults() const { return quiet || ready_fd >= 0; }
};

}  // namespace moetrace
