// Segments whose producer has ended and that no collector serves.
#pragma once

#include <string>
#include <vector>

#include "shm/segment_names.hpp"

namespace moetrace::cli {

struct DeadSegment {
  SegmentName name;
  // What it holds that is in no trace, such as "1,200 rows not delivered"; or "".
  std::string undelivered;
};

// The session's dead segments that belong to our user.
std::vector<DeadSegment> dead_segments(const std::string& directory, const std::string& session);

// Removes it, if it is still dead.
bool remove_dead_segment(const std::string& directory, const SegmentName& name);

// The command that drains the session's rings into files.
std::string drain_command(const std::string& directory, const SegmentName& name);

}  // namespace moetrace::cli
