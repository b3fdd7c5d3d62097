// Fills moetrace_reader_line (reader.h) from the structs of trace_lines.hpp.
#pragma once

#include "trace/reader.h"
#include "trace/trace_lines.hpp"

namespace moetrace::trace {

// The kind of a line, MOETRACE_READER_STEP and so on; 0: a row, or a type that this reader does not
// know.
uint32_t kind_of(const Content& content);

// False if a number does not fit an int64. `content` is of a kind other than 0.
bool fill_line(const Content& content, moetrace_reader_place place, moetrace_reader_line& line);

}  // namespace moetrace::trace
