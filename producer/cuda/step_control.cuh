// The step's life and the ring's tally, as one thread of a kernel changes them (ABI.md:
// Protocols).
#pragma once

#include "producer/cuda/tally.cuh"

namespace moetrace::cuda {

// Slots that can be dealt out without asking the collector.
__device__ inline std::uint64_t known_room(const HookView& view, const StepTally& tally) {
  return view.route_slots - (tally.claimed - tally.consumed);
}

// The consumed position after `seen`. The other side is not trusted: only a value between the last
// one and what has been claimed can be true.
__device__ inline std::uint64_t believed(const StepTally& tally, std::uint64_t seen) {
  return seen - tally.consumed <= tally.claimed - tally.consumed ? seen : tally.consumed;
}

// Asks the collector if what is known would not hold another layer of `rows` rows. So the next
// launch finds its answer in device memory, and all its blocks find the same one.
__device__ inline void look_for_room(const HookView& view, StepTally& tally, std::uint32_t rows) {
  if (known_room(view, tally) >= rows) return;
  // acquire: synchronizes with the release store in RingReader::publish, so the collector is done
  // with every slot below before a later launch, which comes after this one, writes into it.
  tally.consumed = believed(tally, load_acquire_system(view.consumed));
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
__device__ inline void end_step(const HookView& view, std::uint64_t step, StepTally& tally) {
  tally.open = 0;
  tally.steps_done = step + 1;
  tally.published = tally.claimed;
  moetrace_snapshot* line = view.snapshots + ++tally.snapshots % 2;
  fence_system();
  publish(view, tally.claimed);
  store_system(&line->steps_done, tally.steps_done);
  store_system(&line->claimed, tally.claimed);
  store_system(&line->dropped, tally.dropped);
  fence_system();
  store_system(&line->number, tally.snapshots);
}

}  // namespace moetrace::cuda
