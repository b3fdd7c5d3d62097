// What one write put into a trace file, as it is published.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "daemon/collector/lines.hpp"

namespace moetrace {

// Consecutive lines of one topic.
struct Run {
  bool route = false;  // else `meta`
  std::size_t begin = 0;
  std::size_t end = 0;
  std::optional<std::uint64_t> first_seq;
  std::uint64_t count = 0;  // lines
  Totals totals;  // after the last of these lines, so that a subscriber can tell what it missed
                  // before and after
};

struct LineBatch {
  std::string_view text;
  std::vector<Run> runs;
};

}  // namespace moetrace
