// --max-file-size and --max-age: when a part of a trace is over.
#pragma once

#include <chrono>
#include <cstdint>

#include "daemon/config/quantities.hpp"

namespace moetrace {

// What a part is now.
struct PartState {
  // Both files together; and of them, what the part began with: `meta`, `part`, live requests.
  std::uint64_t bytes = 0;
  std::uint64_t head_bytes = 0;
  bool has_rows = false;
  std::chrono::steady_clock::duration age{};
};

// By its size: once it has reached `max_file_size`, at least half of it written since the head, so
// that a head of many requests makes no chain of parts that hold little else. By its age: only with
// rows, so that an idle trace makes no chain of empty parts.
bool part_is_over(const PartState& part, const ByteSize& max_file_size, const TimeSpan& max_age);

}  // namespace moetrace
