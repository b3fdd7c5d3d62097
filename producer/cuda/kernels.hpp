// Launches of the hook's kernels. Each returns the error of its launch.
#pragma once

#include <cuda_runtime_api.h>

#include "producer/cuda/device_view.hpp"
#include "producer/producer.h"

namespace moetrace::cuda {

// What the layers of one launch have in common. Ids and weights are [rows, top_k], contiguous;
// top_k is that of these layers, at most HookView::top_k.
struct RouteShape {
  moetrace_type id_type;
  moetrace_type weight_type;
  // At least 1.
  std::uint32_t rows;
  // False: the weights are unknown.
  bool has_weights;
  std::uint32_t top_k;
  // Ids are below it; at most HookView::num_experts.
  std::uint32_t num_ids;
};

inline bool operator==(const RouteShape& a, const RouteShape& b) {
  return a.id_type == b.id_type && a.weight_type == b.weight_type && a.rows == b.rows &&
         a.has_weights == b.has_weights && a.top_k == b.top_k && a.num_ids == b.num_ids;
}

// One layer's routing in device memory.
struct RouteTensors {
  std::uint32_t layer;
  const void* ids;
  const void* weights;
};

// Maximum layers per launch; they are passed as kernel arguments.
inline constexpr std::uint32_t kMostLayers = 64;
// Maximum rows of a launch with more than one layer.
inline constexpr std::uint32_t kMostSharedRows = 1023;

// Ends a step that is still open and arms the next, with one thread, in stream order before the
// pass that follows.
cudaError_t launch_announce(cudaStream_t stream, const HookView& view, const StepArguments& step);

// Records and counts the announced rows of `count` layers: those that are selected and above the
// step's last layer. `count` is 1 to kMostLayers, and 1 if shape.rows > kMostSharedRows; layers
// come in ascending order. `in_line`: the engine's stream waits for the kernel, so one layer may
// occupy more multiprocessors to finish sooner.
cudaError_t launch_record(cudaStream_t stream, const HookView& view, const RouteShape& shape,
                          const RouteTensors* layers, std::size_t count, bool in_line);

// Writes the counts into the segment, in stream order before the next pass adds to them. `version`:
// an odd number; the even one after it completes the write.
cudaError_t launch_mirror_counts(cudaStream_t stream, const HookView& view, std::uint64_t version);

// Load the kernels' code now. Under CUDA_MODULE_LOADING=LAZY the first launch would load it,
// possibly during a capture, which does not allow that.
cudaError_t load_step_kernels();
cudaError_t load_record_kernels();

}  // namespace moetrace::cuda
