// Enqueues the kernels of a forward pass, layer by layer.
#pragma once

#include "engine/config.hpp"
#include "engine/cuda/device_weights.hpp"
#include "engine/cuda/workspace.hpp"
#include "engine/router_hook.hpp"

namespace moetrace::engine::gpu {

// Enqueues everything on one stream, which may be under capture. Throws CudaError.
class ForwardPass {
 public:
  // `config` and `stream` must outlive the object.
  ForwardPass(const ModelConfig& config, DeviceWeights weights, cudaStream_t stream);
  ~ForwardPass();
  ForwardPass(const ForwardPass&) = delete;
  ForwardPass& operator=(const ForwardPass&) = delete;

  NumberType type() const { return weights_.type; }

  // One row a sequence. Reads the workspace's slots; writes its logits and best.
  void decode(const Workspace& workspace, int rows, RouterHook* hook) const;
  // Any rows. Reads slots, tiles and logits_of; writes logits and best of the rows in logits_of.
  void prefill(const Workspace& workspace, int rows, int tiles, int logit_rows,
               RouterHook* hook) const;
  // Makes the calls that `hook` would have got within the latest pass over this workspace, for its
  // first `rows` rows.
  void report_all(const Workspace& workspace, int rows, RouterHook& hook) const;

 private:
  struct Rows {
    int count;
    int tiles;  // 0: decode
  };
  bool fused(int rows) const { return fused_fits_ && rows <= kFusedRows; }
  void fused_layer(const Workspace& w, int64_t index, int rows, RouterHook* hook) const;
  void wide_layer(const Workspace& w, int64_t index, const Rows& rows, RouterHook* hook) const;
  void wide_mlp(const Workspace& w, int64_t index, int rows, RouterHook* hook) const;
  void report(const Workspace& w, int64_t index, int rows, RouterHook* hook) const;
  void multiply(const void* x, const void* weight, int64_t in, int64_t out, float beta, float* y,
                int rows) const;
  AttentionShape attention_shape(int64_t index) const;
  AttentionScratch attention_scratch(const Workspace& w, int rows) const;
  int32_t* ids_of(const Workspace& w, int64_t index) const;
  float* weights_of(const Workspace& w, int64_t index) const;

  const ModelConfig& config_;
  DeviceWeights weights_;
  cudaStream_t stream_;
  cublasHandle_t cublas_ = nullptr;
  DeviceMemory cublas_memory_;
  DeviceArray<float> inverse_frequency_;  // [head_dim / 2]
  bool fused_fits_ = false;
};

}  // namespace moetrace::engine::gpu
