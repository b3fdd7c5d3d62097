// The interface of the hook for routing in a GPU's memory, whose kernels write the ring. A build
// links one implementation: the CUDA hook (cuda/cuda_hook.cpp), or one whose open() fails
// (cuda/no_cuda.cpp).
#pragma once

#include <memory>
#include <string>

#include "producer/announcer.hpp"
#include "producer/producer.h"
#include "shm/errors.hpp"
#include "shm/segment_map.hpp"

namespace moetrace {

class DeviceHook {
 public:
  // How a layer is recorded: by a kernel on a branch beside the engine's stream, by a kernel in
  // that stream, or by one kernel for many layers later.
  enum class Where { kBranch, kInLine, kDeferred };

  // `device`: the GPU's ordinal. Its kernels write through the mapping of `map`: unmap it only
  // after this hook's destruction, and never after keep(). kSystem if the GPU is missing or can't
  // map the ring; kBadArgument if this build has no GPU code. After an error nothing stays
  // allocated on the GPU.
  static Result<std::unique_ptr<DeviceHook>> open(const SegmentMap& map, int device);
  // Frees what the hook has on the GPU, unless keep() was called.
  virtual ~DeviceHook() = default;
  // Call it before the engine gets the hook. What it has on the GPU then stays until the process
  // ends, because captured graphs hold its addresses.
  virtual void keep() = 0;

  // Whether `stream` is being captured; true as well if CUDA can't tell.
  virtual bool captures(moetrace_cuda_stream stream) const = 0;
  // Announces the pass that follows on `stream`; rows = 0 disarms. Don't call it after a failure or
  // under capture: an announcement must not become part of a graph.
  virtual void announce(moetrace_cuda_stream stream, const StepBlock& block) = 0;
  // As moetrace_record_cuda, moetrace_record_cuda_in_line and moetrace_record_cuda_deferred.
  virtual void record(moetrace_cuda_stream stream, std::uint32_t layer, const void* ids,
                      moetrace_type id_type, const void* weights, moetrace_type weight_type,
                      std::uint32_t rows, Where where) = 0;
  virtual void join(moetrace_cuda_stream stream) = 0;
  // Waits for the GPU, ends an open step and mirrors the counts a last time. Later launches record
  // nothing, nor do replays of graphs that contain some.
  virtual void close() = 0;

  // The error that turned the hook off; empty while it works.
  virtual const std::string& failure() const = 0;
};

}  // namespace moetrace
