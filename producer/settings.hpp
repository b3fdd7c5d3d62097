// What a producer is opened with: the caller's options, completed from the environment and checked.
#pragma once

#include <string>

#include "producer/producer.h"
#include "shm/errors.hpp"
#include "shm/segment_sizes.hpp"

namespace moetrace {

struct Settings {
  std::string directory;
  std::string session;
  SegmentSizes sizes;
  moetrace_ring_header header{};  // the part that describes model and process
  int cuda_device = -1;           // where header.claimer is the GPU
  std::string warning;            // one line about what is asked for and can't be had; may be empty
};

// kBadArgument names the option or the variable that is wrong.
Result<Settings> resolve_settings(const moetrace_options& options);

// What MOETRACE says. kBadArgument: it is set to what is neither on nor off.
Result<bool> tracing_wanted();

}  // namespace moetrace
