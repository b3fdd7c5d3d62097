// The hook for routing that lies in a GPU's memory, and whose kernels write the ring themselves.
// Which one is linked decides what a build can do: the CUDA hook, or one that says that there is
// none.
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
  enum class Where { kBranch, kInLine, kDeferred };

  // For the GPU of ordinal `device`; its kernels write the ring where `map` has it, which therefore
  // stays mapped for ever. kSystem if there is no such GPU or it can't reach the ring; kBadArgument
  // if this build has no GPU code.
  static Result<std::unique_ptr<DeviceHook>> open(const SegmentMap& map, int device);
  virtual ~DeviceHook() = default;

  // Is `stream` being captured, or can't that be told?
  virtual bool captures(moetrace_cuda_stream stream) const = 0;
  // A pass follows on `stream`; rows = 0 disarms. Not after a failure, and not under capture: an
  // announcement must not become a part of a graph.
  virtual void announce(moetrace_cuda_stream stream, const StepBlock& block) = 0;
  // As moetrace_record_cuda, moetrace_record_cuda_in_line and moetrace_record_cuda_deferred.
  virtual void record(moetrace_cuda_stream stream, std::uint32_t layer, const void* ids,
                      moetrace_type id_type, const void* weights, moetrace_type weight_type,
                      std::uint32_t rows, Where where) = 0;
  virtual void join(moetrace_cuda_stream stream) = 0;
  // Waits for the GPU, ends what is open and mirrors the counts a last time. Later launches, and
  // replays of graphs that hold some, leave nothing.
  virtual void close() = 0;

  // Why it has turned itself off; empty if it has not.
  virtual const std::string& failure() const = 0;
};

}  // namespace moetrace
