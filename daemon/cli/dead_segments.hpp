// Segments whose producer has ended and that no collector has.
#pragma once

#include <string>
#include <vector>

#include "shm/segment_names.hpp"

namespace moetrace::cli {

struct DeadSegment {
  SegmentName name;
  std::string undelivered;  // what it holds that is in no trace: "1,200 undelivered rows"; or ""
};

// Those of the session that belong to us.
std::vector<DeadSegment> dead_segments(const std::string& directory, const std::string& session);

// Unlinks it, if it is still dead.
bool remove_dead_segment(const std::string& directory, const SegmentName& name);

// The command that writes what the session's rings hold.
std::string drain_command(const std::string& directory, const SegmentName& name);

}  // namespace moetrace::cli
