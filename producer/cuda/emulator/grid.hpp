// Runs one kernel: every thread a fiber of the calling thread, in a random order.
#pragma once

#include <functional>

#include "cuda_runtime_api.h"

namespace moetrace::emulator {

struct Grid {
  dim3 blocks, threads;
  std::size_t shared_bytes;
  std::function<void()> kernel;
};

// False if a thread reached for memory that is not there; what the others have done by then stays.
// Ends the process, with a line, if threads of a block do not meet where the others do.
bool run(const Grid& grid);

// A number below `end`; the same sequence in each run of a program. From the device's thread only.
std::size_t random_below(std::size_t end);

}  // namespace moetrace::emulator
