// The step's life and the ring's account, as one thread of a kernel changes them (ABI.md:
// Protocols).
#pragma once

#include "producer/cuda/device_view.hpp"
#include "producer/cuda/ordering.cuh"

namespace moetrace::cuda {

// What a launch loads of the control block before its first barrier and keeps in registers: a load
// behind the records' stores waits until these have left, 0.5 to 1.5 us.
struct Account {
  std::uint64_t step;
  std::uint64_t claimed;
  std::uint64_t consumed;
  std::uint64_t dropped;
  std::uint64_t snapshots;
};
__device__ inline Account load_account(const ControlBlock& control) {
  return {control.step, control.claimed, control.consumed, control.dropped, control.snapshots};
}

// Slots that can be dealt out without asking the collector.
__device__ inline std::uint64_t known_room(const HookView& view, const Account& account) {
  return view.route_slots - (account.claimed - account.consumed);
}

// The consumed position after `seen`. The other side is not trusted: only a value between the last
// one and what has been claimed can be true.
__device__ inline std::uint64_t believed(const Account& account, std::uint64_t seen) {
  return seen - account.consumed <= account.claimed - account.consumed ? seen : account.consumed;
}

// Asks the collector if what is known would not hold another layer of `rows` rows. So the next
// launch finds its answer in device memory, and all its blocks find the same one.
__device__ inline void look_for_room(const HookView& view, ControlBlock& control,
                                     const Account& account, std::uint32_t rows) {
  if (known_room(view, account) >= rows) return;
  // acquire: synchronizes with the release store in RingReader::publish, so the collector is done
  // with every slot below before a later launch, which comes after this one, writes into it.
  control.consumed = believed(account, load_acquire_system(view.consumed));
}

// The records below `position` were written by earlier kernels, or by blocks that have passed their
// fence and their ticket, and this thread has executed a fence_system() since: the store is a
// release, and pairs with the acquire in valid_routes_end().
__device__ inline void publish(const HookView& view, std::uint64_t position) {
  store_system(view.published, position);
}

// Every record of the step that will ever be written is written, and this thread knows it:
// publishes them, then a snapshot.
//
// That is AlternatingLines::write of shm/shared_lines.hpp, from one thread. Every store is a
// release through the fence before it, which is what the argument there rests on: who sees a word
// of line n also sees number n - 1, stored by an earlier launch; who sees number n sees all of its
// words.
__device__ inline void end_step(const HookView& view, ControlBlock& control, Account& account) {
  const std::uint64_t number = ++account.snapshots;
  control.open = 0;
  control.steps_done = account.step + 1;
  control.published = account.claimed;
  control.snapshots = number;
  moetrace_snapshot* line = view.snapshots + number % 2;
  fence_system();
  publish(view, account.claimed);
  store_system(&line->steps_done, account.step + 1);
  store_system(&line->claimed, account.claimed);
  store_system(&line->dropped, account.dropped);
  fence_system();
  store_system(&line->number, number);
}

}  // namespace moetrace::cuda
