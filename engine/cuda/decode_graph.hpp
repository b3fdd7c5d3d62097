// Decode passes of one size: their buffers, and a graph for each hook that looks into them.
#pragma once

#include <map>

#include "engine/cuda/forward_pass.hpp"

namespace moetrace::engine::gpu {

class DecodeGraph {
 public:
  // `forward` must outlive it. Throws CudaError, as all of it does.
  DecodeGraph(const ModelConfig& config, const ForwardPass& forward, int64_t rows,
              cudaStream_t stream);
  ~DecodeGraph();
  DecodeGraph(const DecodeGraph&) = delete;
  DecodeGraph& operator=(const DecodeGraph&) = delete;

  const Workspace& workspace() const { return workspace_; }

  // Enqueues a pass over the workspace's slots; `hook`: told within it. With no hook the graph has
  // nothing of one; each hook has its own graph; one that can't be captured gets its pass kernel by
  // kernel.
  void run(RouterHook* hook);

 private:
  cudaGraphExec_t capture(RouterHook* hook);

  const ForwardPass& forward_;
  cudaStream_t stream_;
  Workspace workspace_;
  std::map<uint64_t, cudaGraphExec_t> graphs_;  // by RouterHook::id(); 0: none
};

}  // namespace moetrace::engine::gpu
