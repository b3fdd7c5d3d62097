// Finds a trace file's position from its own last lines.
#pragma once

#include <cstdint>
#include <string>

#include "daemon/collector/trace_file.hpp"

namespace moetrace {

struct ResumePoint {
  TracePosition position;
  std::uint64_t whole_bytes;  // up to the end of the last whole line
};

// `fd`: the file, readable. Nothing if it is empty, or holds no whole line. kInUse if its first
// line is not this trace's meta.
Result<std::optional<ResumePoint>> find_resume_point(int fd, const std::string& path,
                                                     const std::string& trace_id);

}  // namespace moetrace
