// Which launch of the hook a block belongs to: see tally.cuh.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace moetrace::cuda {

// What all blocks of a launch together add to the word that they share: more than they are.
constexpr std::uint64_t kOneLaunch = std::uint64_t{1} << 24;

// What block number `block` of `blocks` adds to it.
__device__ inline std::uint64_t share_of_launch(unsigned block, unsigned blocks) {
  return block == 0 ? kOneLaunch - (blocks - 1) : 1;
}

// What the word is when the launch is over whose block found `begun` in it, before that block added
// its share.
__device__ inline std::uint64_t end_of_launch(std::uint64_t begun) {
  return (begun & ~(kOneLaunch - 1)) + kOneLaunch;
}

// Which of two tallies a launch begins with, by a block of it, or nobody between launches, that
// found `begun`. end_0, end_1: end_of_launch() of the launches that wrote them; of the earlier ones
// the later is taken. The launch's own is ahead of `begun`, so the difference wraps: the greatest.
__device__ inline unsigned begins_with(std::uint64_t begun, std::uint64_t end_0,
                                       std::uint64_t end_1) {
  return begun - end_0 <= begun - end_1 ? 0 : 1;
}

}  // namespace moetrace::cuda
