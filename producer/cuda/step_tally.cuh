// The ring's tally between launches, and within one: blocks that begin late must find what all
// others of their launch began with, although one block writes what the next launch begins with as
// soon as it can. Nobody waits for that.
//
// There are two tallies. A launch begins with the newer one and writes the other. Both say which
// launch wrote them, so a block that finds its own launch in one takes the other: that is the one
// that it would have found there before. Whatever it sees of an tally that is being written, it
// does not take it. So no order is needed between the blocks of a launch; the end of a launch
// orders it before the next (shm/step_tally_model.cpp).
//
// A block learns which launch is its own from a word that all blocks of a launch together add 2^24
// to: each loads it, and then adds its share. The launches before are over, so it finds their sum
// at least; and not 2^24 more, because its own share comes behind its load in the order that all
// operations on one word have, relaxed ones, too. It waits for the load only, together with its
// other loads; an atomic that answers would take 0.3 us more.
#pragma once

#include <cstring>

#include "producer/cuda/device_view.hpp"
#include "producer/cuda/launch_number.cuh"
#include "producer/cuda/ordering.cuh"

namespace moetrace::cuda {

// The lanes of a warp copy what their block begins with, in one trip to memory; a lane a word.
constexpr unsigned kStateWords = sizeof(LaunchState) / sizeof(std::uint64_t);
constexpr unsigned kBegunWord = offsetof(LaunchState, begun) / sizeof(std::uint64_t);
static_assert(kStateWords <= 32, "a warp has a lane for each word");
__device__ inline void load_launch_state(LaunchState& to, LaunchState& from, unsigned lane) {
  if (lane >= kStateWords) return;
  reinterpret_cast<std::uint64_t*>(&to)[lane] =
      DeviceWord(reinterpret_cast<std::uint64_t*>(&from)[lane]).load(::cuda::memory_order_relaxed);
}

// By the thread of lane kBegunWord, after load_launch_state().
__device__ inline void add_share(LaunchState& state) {
  DeviceWord(state.begun)
      .fetch_add(share_of_launch(blockIdx.x, gridDim.x), ::cuda::memory_order_relaxed);
}

// All words of `to`, each whole: blocks of the same launch may be reading them.
__device__ inline void write_tally(StepTally& to, const StepTally& tally) {
  constexpr unsigned kWords = sizeof(StepTally) / sizeof(std::uint64_t);
  std::uint64_t words[kWords];
  std::memcpy(words, &tally, sizeof tally);
  auto* const out = reinterpret_cast<std::uint64_t*>(&to);
#pragma unroll
  for (unsigned n = 0; n < kWords; ++n)
    DeviceWord(out[n]).store(words[n], ::cuda::memory_order_relaxed);
}

// The newer tally, for a kernel of one thread, which comes between launches.
__device__ inline StepTally& newer_tally(ControlBlock& control) {
  LaunchState& state = control.state;
  return state.tallies[begins_with(state.begun, state.tallies[0].end, state.tallies[1].end)];
}

}  // namespace moetrace::cuda
