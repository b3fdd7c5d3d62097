// Kernels that run at most once a step: the announcement, and the mirroring of the counts into the
// segment.
#include "producer/cuda/kernel_launch.cuh"
#include "producer/cuda/kernels.hpp"
#include "producer/cuda/step_control.cuh"

namespace moetrace::cuda {
namespace {

constexpr unsigned kMirrorThreads = 1024;

// One thread, in stream order after the whole previous pass, whose branches are joined.
__global__ void announce_step(HookView view, StepArguments step) {
  ControlBlock& control = *view.control;
  StepTally& newer = newer_tally(control);
  StepTally tally = newer;
  // The previous pass failed, or left layers out: its missing rows are torn.
  if (tally.open != 0) end_step(view, control.state.step.step, tally);
  // 0 already, unless an engine let launches overlap.
  control.ticket = 0;
  control.state.step = step;
  // The host loaded it with acquire before this launch, so the launch is ordered after that load.
  tally.consumed = believed(tally, step.consumed);
  tally.last_seen = -1;
  tally.open = step.rows > 0;
  if (step.rows > 0 && step.last_layer < 0) {
    // No layer is selected, so no layer will end the step.
    end_step(view, step.step, tally);
  } else if (step.record != 0) {
    look_for_room(view, tally, step.rows);
  }
  newer = tally;
}

// VersionedWords::write of shm/shared_lines.hpp, by one block, between two passes. Each thread
// executes a fence after the odd version and before its words, so a reader that sees a word also
// sees that version. The even version is stored after all words.
__global__ void mirror_counts(HookView view, std::uint64_t cells, std::uint64_t version) {
  if (threadIdx.x == 0) store_system(view.mirror_version, version);
  __syncthreads();
  fence_system();
  if (threadIdx.x == 0) store_system(view.mirror_steps_done, newer_tally(*view.control).steps_done);
  for (std::uint64_t cell = threadIdx.x; cell < cells; cell += blockDim.x)
    store_system(view.mirror + cell, std::uint64_t{view.counts[cell]});
  __syncthreads();
  if (threadIdx.x != 0) return;
  fence_system();
  store_system(view.mirror_version, version + 1);
}

}  // namespace

cudaError_t launch_announce(cudaStream_t stream, const HookView& view, const StepArguments& step) {
  return launch_kernel(announce_step, 1, 1, 0, stream, view, step);
}

cudaError_t launch_mirror_counts(cudaStream_t stream, const HookView& view, std::uint64_t version) {
  const std::uint64_t cells = std::uint64_t{view.num_layers} * view.num_experts;
  return launch_kernel(mirror_counts, 1, kMirrorThreads, 0, stream, view, cells, version);
}

cudaError_t load_step_kernels() {
  cudaFuncAttributes attributes;
  for (const void* kernel : {reinterpret_cast<const void*>(&announce_step),
                             reinterpret_cast<const void*>(&mirror_counts)}) {
    if (const cudaError_t failed = cudaFuncGetAttributes(&attributes, kernel)) return failed;
  }
  return cudaSuccess;
}

}  // namespace moetrace::cuda
