// --keep: removes the oldest parts of a trace.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "daemon/collector/output_names.hpp"

namespace moetrace {

struct RemovedParts {
  // Ascending.
  std::vector<std::uint64_t> parts;
  // Their files of lines; parallel.
  std::vector<std::string> paths;
  // Why a part stays that should go; "": none does.
  std::string problem;
};

// Removes each part with a smaller number than `first_kept`, with its rows file. Removes only a
// regular file under one of the trace's own names (no link, no renamed file) that says, inside,
// that it is this part of this trace; of two files that say the same, neither, because one is a
// copy.
RemovedParts remove_parts_before(const OutputNames& names, const std::string& trace_id,
                                 std::uint64_t first_kept);

// "3", "1 to 3", "1, 3": for a line. `numbers`: ascending, at least one.
std::string numbers_text(const std::vector<std::uint64_t>& numbers);

}  // namespace moetrace
