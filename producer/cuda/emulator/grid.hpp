// Runs one kernel: each of its threads is a fiber of the calling thread, in random order.
#pragma once

#include <functional>

#include "cuda_runtime_api.h"

namespace moetrace::emulator {

struct Grid {
  dim3 blocks, threads;
  std::size_t shared_bytes;
  std::function<void()> kernel;
};

// Returns false if a thread accessed memory that does not exist; earlier effects of other threads
// stay. Aborts the process, with a line on stderr, if some threads of a block miss a barrier.
bool run(const Grid& grid);

// A random number below `end`; each run of a program gives the same sequence. Call it from the
// device's thread only.
std::size_t random_below(std::size_t end);

}  // namespace moetrace::emulator
