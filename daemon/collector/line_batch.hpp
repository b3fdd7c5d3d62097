// The lines of one write to a trace's files, as they are published.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "daemon/collector/running_totals.hpp"

namespace moetrace {

// Consecutive lines of one topic.
struct Run {
  // False: `meta`.
  bool route = false;
  // Where it is in what the drain has collected.
  std::size_t begin = 0;
  std::size_t end = 0;
  std::optional<std::uint64_t> first_seq;
  // Lines.
  std::uint64_t count = 0;
  // After the last of these lines: a subscriber derives what it missed before and after them.
  RunningTotals totals;
  // Its lines, once they are made.
  std::string_view text = {};
};

struct LineBatch {
  std::vector<Run> runs;
};

}  // namespace moetrace
