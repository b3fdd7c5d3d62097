// Decode passes of one size: their buffers, and one graph for each hook.
#pragma once

#include <map>

#include "engine/cuda/forward_pass.hpp"

namespace moetrace::engine::gpu {

class DecodeGraph {
 public:
  // `forward` must outlive the object. All members throw CudaError.
  DecodeGraph(const ModelConfig& config, const ForwardPass& forward, int64_t rows,
              cudaStream_t stream);
  ~DecodeGraph();
  DecodeGraph(const DecodeGraph&) = delete;
  DecodeGraph& operator=(const DecodeGraph&) = delete;

  const Workspace& workspace() const { return workspace_; }

  // Enqueues a pass over the workspace's slots, and calls `hook` (may be nullptr) within it. Each
  // hook has a graph of its own, and so has the pass without a hook. The pass of a hook with
  // kInEagerPass is eager.
  void run(RouterHook* hook);

 private:
  cudaGraphExec_t capture(RouterHook* hook);

  const ForwardPass& forward_;
  cudaStream_t stream_;
  Workspace workspace_;
  std::map<uint64_t, cudaGraphExec_t> graphs_;  // by RouterHook::id(); 0: without a hook
};

}  // namespace moetrace::engine::gpu
