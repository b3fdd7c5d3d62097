// How launches hand the StepTally on, and how all blocks of one launch begin with the same tally.
// Blocks start at any time: a late block must find the tally that the others found, although one
// block of its launch may already have written the next launch's. No block waits for another.
//
// There are two tallies. A launch begins with the newer one and writes the other. Each tally names
// the launch that wrote it. A block that finds its own launch in one takes the other tally, which
// is the one that it would have found earlier. It never takes a tally that is being written, so the
// blocks of a launch need no order among themselves; the end of a launch orders it before the next
// (models/step_tally_model.cpp).
//
// A block identifies its launch by `begun`, to which all blocks of a launch together add 2^24: each
// block loads `begun` and then adds its share. All earlier launches are over, so the block finds at
// least their sum. It finds less than 2^24 more, because its own share comes after its load in the
// modification order, which covers relaxed operations too. The block waits only for the load,
// together with its other loads; an atomic with a result would take 0.3 us more.
#pragma once

#include <cstring>

#include "producer/cuda/device_view.hpp"
#include "producer/cuda/launch_number.cuh"
#include "producer/cuda/ordering.cuh"

namespace moetrace::cuda {

// The lanes of a warp copy the launch state in one trip to memory, one word a lane.
constexpr unsigned kStateWords = sizeof(LaunchState) / sizeof(std::uint64_t);
constexpr unsigned kBegunWord = offsetof(LaunchState, begun) / sizeof(std::uint64_t);
static_assert(kStateWords <= 32, "a warp has a lane for each word");
__device__ inline void load_launch_state(LaunchState& to, LaunchState& from, unsigned lane) {
  if (lane >= kStateWords) return;
  reinterpret_cast<std::uint64_t*>(&to)[lane] =
      DeviceWord(reinterpret_cast<std::uint64_t*>(&from)[lane]).load(::cuda::memory_order_relaxed);
}

// Call it from lane kBegunWord, after load_launch_state().
__device__ inline void add_share(LaunchState& state) {
  DeviceWord(state.begun)
      .fetch_add(share_of_launch(blockIdx.x, gridDim.x), ::cuda::memory_order_relaxed);
}

// Stores each word of `to` atomically, because blocks of the same launch may be loading them.
__device__ inline void write_tally(StepTally& to, const StepTally& tally) {
  constexpr unsigned kWords = sizeof(StepTally) / sizeof(std::uint64_t);
  std::uint64_t words[kWords];
  std::memcpy(words, &tally, sizeof tally);
  auto* const out = reinterpret_cast<std::uint64_t*>(&to);
#pragma unroll
  for (unsigned n = 0; n < kWords; ++n)
    DeviceWord(out[n]).store(words[n], ::cuda::memory_order_relaxed);
}

// The newer tally, for a kernel that runs between launches.
__device__ inline StepTally& newer_tally(ControlBlock& control) {
  LaunchState& state = control.state;
  return state.tallies[begins_with(state.begun, state.tallies[0].end, state.tallies[1].end)];
}

}  // namespace moetrace::cuda
