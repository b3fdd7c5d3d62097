// What host and kernels of the CUDA hook share: the step block, the state that lives in device
// memory between launches, and where the mapped segment lies.
#pragma once

#include <cstddef>
#include <cstdint>

#include "shm/abi.h"

namespace moetrace::cuda {

// The step block: what an announcement tells the kernels of the pass that follows. An argument of
// the announcing kernel, so that it is in stream order without a copy.
struct StepArguments {
  std::uint64_t step;
  std::uint64_t consumed;      // of the route ring, as the host has just read it
  moetrace_layer_mask layers;  // selected
  std::uint32_t rows;          // 0: announces nothing
  std::uint32_t record;        // 0: only counts
  std::int32_t last_layer;     // the highest selected one, -1: none
};

// The ring's tally and how far the step is, as a launch leaves it to the next one (tally.cuh).
struct StepTally {
  std::uint64_t end;        // end_of_launch() of the launch that wrote this; 0: none has
  std::uint64_t claimed;    // route slots dealt out so far
  std::uint64_t consumed;   // what the collector was last seen to have consumed, never ahead of it
  std::uint64_t published;  // of the claimed, so many may be read
  std::uint64_t dropped;
  std::uint64_t snapshots;   // written so far
  std::uint64_t steps_done;  // every step below this number is over
  std::int32_t last_seen;    // last layer of this step that has passed, -1: none yet
  std::uint32_t open;        // the step is announced and not over
};

// What a block of a launch looks at before it begins. Only announcements change `step`.
struct LaunchState {
  StepTally tallies[2];
  StepArguments step;
  std::uint64_t begun;  // 2^24 for each launch before, and what the running one's blocks have added
};

// In device memory, one a producer. Launches of one producer never overlap, and the end of a kernel
// shows what it has written to the next one. Only what blocks of one launch do to each other needs
// an atomic.
struct ControlBlock {
  LaunchState state;
  std::uint32_t ticket;  // blocks of the launch that ends a step which have written
  std::uint32_t reserved;
};

// Addresses as the GPU sees them. The same for the life of a producer, and longer: captured graphs
// hold it.
struct HookView {
  ControlBlock* control;             // device memory
  unsigned long long* counts;        // device memory, [num_layers][num_experts]
  std::byte* routes;                 // .ring
  std::uint64_t* published;          // .ring: moetrace_published::routes
  moetrace_snapshot* snapshots;      // .ring, two
  std::uint64_t* mirror_version;     // .ring: moetrace_counts_header::version
  std::uint64_t* mirror_steps_done;  // .ring
  std::uint64_t* mirror;             // .ring, [num_layers][num_experts]
  std::uint64_t* consumed;           // .ctl: route_consumed
  std::uint64_t route_slots;         // a power of two
  std::uint64_t publish_every;       // if so many wait, a launch publishes those of earlier ones
  std::uint32_t top_k;
  std::uint32_t num_layers;
  std::uint32_t num_experts;
};

}  // namespace moetrace::cuda
