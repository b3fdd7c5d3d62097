// Finds the file in which a trace begins or continues.
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
  // The file's number among the parts of the trace.
  std::uint64_t part = 1;
  // Where the trace stands: at the end of the file, or, for a new file, at the end of the part
  // before. Nothing if no file of the trace was found.
  std::optional<TracePosition> position;
  // Why a part can't be continued, and where the trace continues instead; or "".
  std::string warning;
};

// The slots that a collector has released to the producer: written to a file, or filtered.
struct Consumed {
  // Every slot below this number.
  std::uint64_t rows = 0;
  // How many of them were filtered.
  std::uint64_t filtered = 0;
};

// The last part of the trace, or a new file. If the last part ends before the consumed rows, it has
// lost its end, and a new part begins. An error if a file can't be read or made; then nothing has
// changed, so try again later.
//
// `start`: how a new file begins, apart from its part number. A part that exists keeps its form.
Result<TracePlace> place_trace(const OutputNames& names, PartStart start, const Consumed& consumed);

// The trace's files of lines, first part first. An error if one of them, or their folder, can't be
// read.
Result<std::vector<std::string>> trace_files(const OutputNames& names, const std::string& trace_id);

// A new file under the first free name, or the first one from the part's number on
// (start.named_by_number); with Arrow rows, the first of which both names are free.
Result<TraceFile> next_file(const OutputNames& names, const PartStart& start);

}  // namespace moetrace
