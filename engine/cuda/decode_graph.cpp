#include "engine/cuda/decode_graph.hpp"

#include <cstdint>

namespace moetrace::engine::gpu {

DecodeGraph::DecodeGraph(const ModelConfig& config, const ForwardPass& forward, int64_t rows,
                         cudaStream_t stream)
    : forward_(forward), stream_(stream), workspace_(config, forward.type(), rows, rows, stream) {}

DecodeGraph::~DecodeGraph() {
  for (const auto& [hook, graph] : graphs_) cudaGraphExecDestroy(graph);
}

void DecodeGraph::run(RouterHook* hook) {
  const int rows = static_cast<int>(workspace_.rows);
  if (hook != nullptr && hook->when() == RouterHook::When::kInEagerPass) {
    forward_.decode(workspace_, rows, hook);
    return;
  }
  const uint64_t id = hook != nullptr ? hook->id() : 0;
  auto found = graphs_.find(id);
  if (found == graphs_.end()) {
    // An eager pass first: the first launch of a kernel loads its code, which is forbidden during
    // capture. The pass calls no hook, and the replay overwrites its outputs.
    forward_.decode(workspace_, rows, nullptr);
    check(cudaStreamSynchronize(stream_), "first pass of this size");
    found = graphs_.emplace(id, capture(hook)).first;
  }
  check(cudaGraphLaunch(found->second, stream_), "launching a graph");
}

cudaGraphExec_t DecodeGraph::capture(RouterHook* hook) {
  cudaGraph_t graph = nullptr;
  check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "capturing");
  try {
    forward_.decode(workspace_, static_cast<int>(workspace_.rows), hook);
  } catch (...) {
    cudaStreamEndCapture(stream_, &graph);
    cudaGraphDestroy(graph);
    cudaGetLastError();
    throw;
  }
  check(cudaStreamEndCapture(stream_, &graph), "capturing");
  cudaGraphExec_t executable = nullptr;
  const cudaError_t made = cudaGraphInstantiate(&executable, graph, 0);
  cudaGraphDestroy(graph);
  check(made, "instantiating a graph");
  return executable;
}

}  // namespace moetrace::engine::gpu
