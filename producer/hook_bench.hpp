// What the benchmarks of the hook and of its alternatives share.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/bench_machine.hpp"

namespace moetrace::bench {

// The measurements of one row of the table.
struct Row {
  std::string what;
  // Nanoseconds per record, one a burst.
  std::vector<double> ns;
  std::uint64_t records = 0;
  std::uint64_t delivered = 0;
};

// The engine itself writes a JSON line for each record to a file on tmpfs, as public patches do.
Row json_row(int repeats);

}  // namespace moetrace::bench
