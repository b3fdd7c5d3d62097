// What an open CUDA hook has on the GPU: mappings, memory, its stream and its events.
#pragma once

#include <cuda_runtime_api.h>

#include <string>

#include "producer/cuda/device_view.hpp"
#include "shm/errors.hpp"
#include "shm/segment_map.hpp"

namespace moetrace {

// Everything that captured graphs may refer to. An open hook never frees it, because a graph may be
// replayed as long as the process lives.
struct GpuState {
  cuda::HookView view{};
  // The stream of the hook's kernels, beside the engine's.
  cudaStream_t branch = nullptr;
  cudaEvent_t fork = nullptr;
  // The end of the branch: outside a capture, and within one.
  cudaEvent_t joined = nullptr;
  cudaEvent_t joined_captured = nullptr;
};

// Makes everything on the current GPU, and loads the kernels. kSystem if a CUDA call fails; then it
// takes back what it made.
Result<GpuState> make_gpu_state(const SegmentMap& map);

// The error of a failed call. Clears CUDA's last error, so that the engine does not find it.
Error cuda_error(const std::string& doing, cudaError_t error);

}  // namespace moetrace
