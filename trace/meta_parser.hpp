// The meta line of a trace: the one line that is read into a document, because it comes once or
// seldom.
#pragma once

#include <string_view>

#include "trace/errors.hpp"
#include "trace/trace_lines.hpp"

namespace moetrace::trace {

// `text`: a line whose type is meta. Errors: kBadJson, kBadMeta; their message is the "why" alone,
// without file and line.
Result<Meta> parse_meta(std::string_view text);

}  // namespace moetrace::trace
