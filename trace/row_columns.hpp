// Fills moetrace_reader_rows (reader.h) with rows of a rows file.
#pragma once

#include "trace/reader.h"
#include "trace/trace_lines.hpp"

namespace moetrace::trace {

// There is room for all of them.
void append_rows(const RowRun& run, moetrace_reader_rows& rows);

}  // namespace moetrace::trace
