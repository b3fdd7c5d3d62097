// How one thread of a kernel advances the step and the ring's counters (ABI.md: Protocols).
#pragma once

#include "producer/cuda/step_tally.cuh"

namespace moetrace::cuda {

// Slots that can be reserved without loading the collector's position.
__device__ inline std::uint64_t known_room(const HookView& view, const StepTally& tally) {
  return view.route_slots - (tally.claimed - tally.consumed);
}

// The consumed position to use after `seen` was loaded. The collector is not trusted: only a value
// between the last position and `claimed` is possible, and any other is ignored.
__device__ inline std::uint64_t believed(const StepTally& tally, std::uint64_t seen) {
  return seen - tally.consumed <= tally.claimed - tally.consumed ? seen : tally.consumed;
}

// Loads the collector's position if the known room is too small for another layer of `rows` rows.
// The next launch then finds it in device memory, the same for all its blocks.
__device__ inline void look_for_room(const HookView& view, StepTally& tally, std::uint32_t rows) {
  if (known_room(view, tally) >= rows) return;
  // acquire: synchronizes with the release store in RingReader::publish. The collector is done with
  // every slot below before a later launch writes into it.
  tally.consumed = believed(tally, load_acquire_system(view.consumed));
}

// Publishes the records below `position`. They must come from earlier kernels, or from blocks that
// have passed their fence and their ticket, and this thread must have executed a fence_system()
// since. The store is then a release, and pairs with the acquire load in valid_routes_end().
__device__ inline void publish(const HookView& view, std::uint64_t position) {
  store_system(view.published, position);
}

// Ends the step: publishes its records, then writes a snapshot. Call it once this thread knows that
// all records of the step are written.
//
// The snapshot is AlternatingLines::write of shm/shared_lines.hpp, from one thread. The fence
// before each store makes it a release, on which the argument there rests: a reader that sees a
// word of line n also sees number n - 1, stored by an earlier launch; a reader that sees number n
// sees all its words.
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
