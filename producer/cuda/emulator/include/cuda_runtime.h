// The part of CUDA C++ that the hook's kernels use, for a host compiler. A kernel is a function
// that runs once for each thread of the grid; at barriers, fences and atomics it lets other threads
// run.
#pragma once

#include <bit>
#include <cstdint>
#include <functional>
#include <tuple>
#include <utility>

#include "cuda_runtime_api.h"

#define __global__
#define __device__
#define __host__
#define __shared__
#define __grid_constant__
#define __launch_bounds__(...)
#define __forceinline__ inline

namespace moetrace::emulator {

// A barrier for the block: every thread of it must call this.
void meet();
// Lets other threads run here, before this thread's next effects.
void step_aside();
// Enqueues `kernel` into the stream, or adds it to the graph that the stream is captured into.
cudaError_t launch(cudaStream_t stream, dim3 blocks, dim3 threads, std::size_t shared_bytes,
                   std::function<void()> kernel);

}  // namespace moetrace::emulator

// Of the running thread.
extern dim3 threadIdx, blockIdx, blockDim, gridDim;

struct uint4 {
  std::uint32_t x, y, z, w;
};
inline uint4 make_uint4(std::uint32_t x, std::uint32_t y, std::uint32_t z, std::uint32_t w) {
  return {x, y, z, w};
}
inline unsigned min(unsigned a, unsigned b) {
  return a < b ? a : b;
}
inline int max(int a, int b) {
  return a > b ? a : b;
}
inline int __popcll(unsigned long long word) {
  return std::popcount(word);
}
inline int __clzll(long long word) {
  return std::countl_zero(static_cast<unsigned long long>(word));
}
inline std::uint32_t __float_as_uint(float value) {
  return std::bit_cast<std::uint32_t>(value);
}
template <class T>
void __stcs(T* to, T value) {
  *to = value;
}

inline void __syncthreads() {
  moetrace::emulator::meet();
}
inline void __threadfence() {
  moetrace::emulator::step_aside();
}
template <class T>
T atomicAdd(T* word, T value) {
  moetrace::emulator::step_aside();
  const T before = *word;
  *word += value;
  return before;
}
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  std::size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
};
template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  return moetrace::emulator::launch(
      config->stream, config->gridDim, config->blockDim, config->dynamicSmemBytes,
      [kernel, values = std::tuple<Parameters...>(std::forward<Arguments>(arguments)...)] {
        std::apply(kernel, values);
      });
}
