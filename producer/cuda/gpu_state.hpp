// What an open CUDA hook has on the GPU: mappings, memory, its stream and its events.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "producer/cuda/device_view.hpp"
#include "shm/errors.hpp"
#include "shm/segment_map.hpp"

namespace moetrace {

// How to take back what was made on the GPU.
class GpuObjects {
 public:
  GpuObjects() = default;
  GpuObjects(GpuObjects&&) = default;
  GpuObjects& operator=(GpuObjects&&) = delete;
  ~GpuObjects() { take_back(); }

  // `undo`: with a capture of one pointer, so that it allocates nothing.
  void add(std::function<cudaError_t()> undo) { undo_.push_back(std::move(undo)); }
  // So that `count` calls of add() don't throw: what is made is never lost.
  void reserve(std::size_t count) { undo_.reserve(count); }
  bool empty() const { return undo_.empty(); }
  // In the reverse order, on the current GPU.
  void take_back();
  // Takes nothing back.
  void keep() { undo_.clear(); }

 private:
  std::vector<std::function<cudaError_t()>> undo_;
};

// Everything that captured graphs may refer to. A hook that the engine has never frees it, because
// a graph may be replayed as long as the process lives.
struct GpuState {
  GpuObjects made;
  cuda::HookView view{};
  // The stream of the hook's kernels, beside the engine's.
  cudaStream_t branch = nullptr;
  cudaEvent_t fork = nullptr;
  // The end of the branch: outside a capture, and within one.
  cudaEvent_t joined = nullptr;
  cudaEvent_t joined_captured = nullptr;
};

// Makes everything on the current GPU, and loads the kernels. kSystem if a CUDA call fails; then
// everything is taken back.
Result<GpuState> make_gpu_state(const SegmentMap& map);

// The error of a failed call. Clears CUDA's last error, so that the engine does not find it.
Error cuda_error(const std::string& doing, cudaError_t error);

}  // namespace moetrace
