// Identifies the launch that a block belongs to; step_tally.cuh explains how.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace moetrace::cuda {

// What all blocks of a launch together add to LaunchState::begun; larger than any grid.
constexpr std::uint64_t kOneLaunch = std::uint64_t{1} << 24;

// The part that block number `block` of `blocks` adds.
__device__ inline std::uint64_t share_of_launch(unsigned block, unsigned blocks) {
  return block == 0 ? kOneLaunch - (blocks - 1) : 1;
}

// The value of LaunchState::begun once a launch is over. `begun`: what any block of that launch
// loaded before it added its share.
__device__ inline std::uint64_t end_of_launch(std::uint64_t begun) {
  return (begun & ~(kOneLaunch - 1)) + kOneLaunch;
}

// The index of the tally that a launch begins with. `begun`: what a block of it loaded, or the word
// between launches. end_0, end_1: StepTally::end of the two tallies. Takes the later of the earlier
// launches: a tally of the launch itself has an end above `begun`, so its difference wraps around
// and is the greater one.
__device__ inline unsigned begins_with(std::uint64_t begun, std::uint64_t end_0,
                                       std::uint64_t end_1) {
  return begun - end_0 <= begun - end_1 ? 0 : 1;
}

}  // namespace moetrace::cuda
