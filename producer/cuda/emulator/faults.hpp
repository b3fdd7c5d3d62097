// Faults for tests: calls of the runtime that fail, and a count of what they have made.
#pragma once

#include <functional>

namespace moetrace::emulator {

// Lets the next `calls` setup calls succeed and makes the one after them return
// cudaErrorMemoryAllocation, once. Setup calls allocate, register, create, synchronize the device
// or load a kernel.
void fail_after(int calls);
// Ends fail_after(). Returns whether the fault is still pending: no call has failed.
bool cancel_failure();
// Calls `act` at the beginning of the next setup call.
void at_next_setup_call(std::function<void()> act);

// What exists now.
struct Live {
  int allocations = 0;
  int registrations = 0;
  int streams = 0;
  int events = 0;
  friend bool operator==(const Live&, const Live&) = default;
};
Live live();

}  // namespace moetrace::emulator
