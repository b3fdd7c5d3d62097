// What the rows of the benchmark's table have in common.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace moetrace::bench {

// One row of the table: times of `repeats` bursts, per record.
struct Row {
  std::string what;
  std::vector<double> ns;  // per record, one a repeat
  std::uint64_t records = 0;
  std::uint64_t delivered = 0;
};

std::int64_t now_ns();
void pin_to(int cpu);

// boost::interprocess::message_queue::try_send of 64 bytes, received by a thread on the other core.
Row message_queue_row(int repeats);
// A JSON line for each record, written by the engine itself to a file on tmpfs, as public patches
// do.
Row json_row(int repeats);

}  // namespace moetrace::bench
