// Launches of the hook's kernels. Each returns the error of its launch.
#pragma once

#include <cuda_runtime_api.h>

#include "producer/cuda/device_view.hpp"
#include "producer/producer.h"

namespace moetrace::cuda {

// What the layers of one launch have in common. Their ids and weights are [rows, top_k],
// contiguous.
struct RouteShape {
  moetrace_type id_type;
  moetrace_type weight_type;
  std::uint32_t rows;  // at least 1
  bool has_weights;    // false: not known
};

// One layer's routing in device memory.
struct RouteTensors {
  std::uint32_t layer;
  const void* ids;
  const void* weights;
};

// Layers of one launch: so many are a kernel's arguments.
inline constexpr std::uint32_t kMostLayers = 64;
// Rows of a launch of more than one layer.
inline constexpr std::uint32_t kMostSharedRows = 1023;

// One thread, in the order of the pass that follows on `stream`: ends a step that is still open and
// arms the next.
cudaError_t launch_announce(cudaStream_t stream, const HookView& view, const StepArguments& step);

// Records and counts the announced rows of those layers that are selected and have not passed yet
// in this step: `count` of them, 1 to kMostLayers, in ascending order; several only of at most
// kMostSharedRows. `in_line`: the engine waits for it, so one layer may take more multiprocessors
// to be over sooner.
cudaError_t launch_record(cudaStream_t stream, const HookView& view, const RouteShape& shape,
                          const RouteTensors* layers, std::size_t count, bool in_line);

// Writes the counts into the segment, by `version`, an odd number, and the even one behind it:
// before the next pass adds to them.
cudaError_t launch_mirror_counts(cudaStream_t stream, const HookView& view, std::uint64_t version);

// Load the kernels' code now: under CUDA_MODULE_LOADING=LAZY the first launch would, perhaps in the
// middle of a capture.
cudaError_t load_step_kernels();
cudaError_t load_record_kernels();

}  // namespace moetrace::cuda
