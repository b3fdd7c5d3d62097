// Finds the file in which a trace begins or goes on.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "daemon/collector/output_names.hpp"
#include "daemon/collector/trace_file.hpp"

namespace moetrace {

struct TracePlace {
  TraceFile file;
  std::uint64_t part = 1;  // the file's number among the trace's files
  // Where the trace stands: at the end of the file, or, for a new file, at the end of the part
  // before. Nothing where no file tells.
  std::optional<TracePosition> position;
  // A part that can't be gone on with, and what happens instead; or "".
  std::string warning;
};

// What a collector has given back to the producer, because it was in a file or left out.
struct Consumed {
  std::uint64_t rows = 0;      // all below this number
  std::uint64_t filtered = 0;  // how many of them were left out
};

// The last part of the trace that is there, or a new file. Where the last part ends before what was
// consumed, it has lost its end, and a new one begins. An error if what is there can't be read, or
// if no file can be made: nothing was changed then, so try again later.
Result<TracePlace> place_trace(const OutputNames& names, const std::string& trace_id,
                               std::string_view meta, const Consumed& consumed);

// The trace's files that are there, first part first. An error if one of them, or their folder,
// can't be read.
Result<std::vector<std::string>> trace_files(const OutputNames& names, const std::string& trace_id);

// A new file under the first free name.
Result<TraceFile> next_file(const OutputNames& names, std::string_view meta);

}  // namespace moetrace
