// Programmatic dependent launch: a kernel starts while the previous one ends. Meanwhile it reads
// what does not depend on that kernel: weights.
//
// The rule for every kernel of a chain: call wait_for_previous() in every thread. Before the call,
// write nothing, and read nothing that an earlier kernel writes. The call returns when the previous
// kernel has ended, and that kernel has waited for its own predecessor. So a chain has the order of
// an ordinary stream.
#pragma once

#include <utility>

#include "engine/cuda/cuda_error.hpp"

namespace moetrace::engine::gpu {

// Both do nothing before sm_90: there the kernels run one after another.
__device__ inline void wait_for_previous() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
__device__ inline void let_next_start() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

inline bool can_chain() {
  static const bool can = [] {
    int device = 0;
    int major = 0;
    check(cudaGetDevice(&device), "device");
    check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "device");
    return major >= 9;
  }();
  return can;
}

// `chained` false: an ordinary launch. Use it after any work that is not a kernel of the chain.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), bool chained, dim3 grid, dim3 block, size_t shared_bytes,
            cudaStream_t stream, Arguments&&... arguments) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = chained && can_chain() ? 1 : 0;
  check(cudaLaunchKernelEx(&config, kernel, Parameters(std::forward<Arguments>(arguments))...),
        "launch");
}

}  // namespace moetrace::engine::gpu
