// What host and kernels of the CUDA hook share: the step block, the state that lives in device
// memory between launches, and the addresses of the mapped segment.
#pragma once

#include <cstddef>
#include <cstdint>

#include "shm/abi.h"

namespace moetrace::cuda {

// The step block: what an announcement tells the kernels of the following pass. It is an argument
// of the announcing kernel, so it takes effect in stream order without a copy.
struct StepArguments {
  std::uint64_t step;
  // The collector's position in the route ring, as the host has just loaded it.
  std::uint64_t consumed;
  // The selected layers.
  moetrace_layer_mask layers;
  // 0: nothing is announced.
  std::uint32_t rows;
  // 0: the pass is only counted.
  std::uint32_t record;
  // The highest selected layer; -1: none is selected.
  std::int32_t last_layer;
};

// The ring's counters and the progress of the step, as one launch leaves them to the next
// (step_tally.cuh).
struct StepTally {
  // end_of_launch() of the launch that wrote this; 0: no launch has.
  std::uint64_t end;
  // Route slots reserved so far.
  std::uint64_t claimed;
  // The collector's position when last seen; never ahead of its real one.
  std::uint64_t consumed;
  // Readers may read the slots below this one.
  std::uint64_t published;
  std::uint64_t dropped;
  // Snapshots written so far.
  std::uint64_t snapshots;
  // Every step below this number is over.
  std::uint64_t steps_done;
  // The step's last layer so far; -1: none yet.
  std::int32_t last_seen;
  // 1: the step is announced and not over.
  std::uint32_t open;
};

// What a block of a launch loads before it begins. Only announcements change `step`.
struct LaunchState {
  StepTally tallies[2];
  StepArguments step;
  // 2^24 for each earlier launch, plus what the blocks of the running one have added so far.
  std::uint64_t begun;
};

// In device memory, one a producer. Launches of one producer never overlap, and the end of a kernel
// makes its stores visible to the next one, so only the blocks of one launch need atomics among
// themselves.
struct ControlBlock {
  LaunchState state;
  // Blocks that have written, of the launch that ends a step.
  std::uint32_t ticket;
  std::uint32_t reserved;
};

// Addresses as the GPU sees them. Constant for the life of the process, because captured graphs
// hold them even after the producer is closed.
struct HookView {
  // Device memory.
  ControlBlock* control;
  // Device memory, [num_layers][num_experts].
  unsigned long long* counts;
  // In .ring: the route ring, moetrace_published::routes, and the two snapshots.
  std::byte* routes;
  std::uint64_t* published;
  moetrace_snapshot* snapshots;
  // In .ring: the mirrored counts, [num_layers][num_experts], and their moetrace_counts_header.
  std::uint64_t* mirror_version;
  std::uint64_t* mirror_steps_done;
  std::uint64_t* mirror;
  // In .ctl: route_consumed.
  std::uint64_t* consumed;
  // A power of two.
  std::uint64_t route_slots;
  // Publish mid-step once this many records of earlier launches are pending.
  std::uint64_t publish_every;
  std::uint32_t top_k;
  std::uint32_t num_layers;
  std::uint32_t num_experts;
};

}  // namespace moetrace::cuda
