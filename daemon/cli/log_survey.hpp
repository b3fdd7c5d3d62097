// What a plain log says of its model, anywhere in it.
#pragma once

#include <optional>
#include <string>

#include "trace/trace_reader.hpp"

namespace moetrace::cli {

// The meta of a plain log, with every layer that has rows: a log may describe its model after its
// rows, or not at all. Nothing if the file can be read only once, or has a fault.
std::optional<trace::Meta> survey(const std::string& file, const trace::ReadOptions& options);

}  // namespace moetrace::cli
