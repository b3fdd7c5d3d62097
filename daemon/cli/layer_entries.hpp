// What a trace says of its layers, as a segment says it.
#pragma once

#include <cstdint>
#include <vector>

#include "shm/abi.h"
#include "trace/trace_lines.hpp"

namespace moetrace::cli {

// As the engine declared its layers, an entry for each of the model's; empty if it declared none.
std::vector<moetrace_layer_entry> layer_entries(const trace::Meta& meta, std::uint32_t num_layers);

}  // namespace moetrace::cli
