// What a producer is opened with: the caller's options, checked and completed from the environment.
#pragma once

#include <string>
#include <vector>

#include "producer/producer.h"
#include "shm/errors.hpp"
#include "shm/segment_sizes.hpp"

namespace moetrace {

struct Settings {
  std::string directory;
  std::string session;
  SegmentSizes sizes;
  // Only the fields that describe the model and the process.
  moetrace_ring_header header{};
  // An entry for each layer of the header, or none.
  std::vector<moetrace_layer_entry> layers;
  // The GPU's ordinal, if header.claimer is MOETRACE_CLAIMER_GPU.
  int cuda_device = -1;
  // One line about a request that could not be met in full; may be empty.
  std::string warning;
  // See RingSize::text.
  std::string ring_text;
};

// kBadArgument, kNoSpace: the message names the wrong option or variable.
Result<Settings> resolve_settings(const moetrace_options& options);

// Whether MOETRACE turns tracing on. kBadArgument: its value means neither on nor off.
Result<bool> tracing_wanted();

}  // namespace moetrace
