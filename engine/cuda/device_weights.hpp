// A model's weights in device memory, in the kernels' layout.
#pragma once

#include <vector>

#include "engine/config.hpp"
#include "engine/cuda/device_array.hpp"
#include "engine/cuda/number_type.hpp"

namespace moetrace::engine::gpu {

// All are of `type`, except norms and biases, which are float.
struct LayerWeights {
  DeviceArray<float> attention_norm;  // [hidden]
  DeviceMemory qkv;                   // [(heads + 2 * kv_heads) * head_dim, hidden]
  DeviceArray<float> qkv_bias;        // of the same rows; null if the model has none
  DeviceMemory attention_out;         // [hidden, heads * head_dim]
  DeviceArray<float> mlp_norm;        // [hidden]
  bool moe = false;
  // The shared expert of an MoE layer, or the MLP of a dense layer.
  DeviceMemory shared_gate_up;  // [2 * inner, hidden]
  DeviceMemory shared_down;     // [hidden, inner]
  int64_t shared_inner = 0;
  // Null in a dense layer.
  DeviceMemory router;   // [logit_columns, hidden]: the experts, the shared expert's gate, zeros
  DeviceMemory gate_up;  // [experts, 2 * inner, hidden]
  DeviceMemory down;     // [experts, hidden, inner]
};

struct DeviceWeights {
  NumberType type = NumberType::kBfloat16;
  DeviceMemory embedding;  // [vocab, hidden]
  DeviceMemory own_head;   // [vocab, hidden]; null if the embedding is also the head
  DeviceArray<float> norm;
  std::vector<LayerWeights> layers;

  const void* head() const { return own_head.get() != nullptr ? own_head.get() : embedding.get(); }
};

// kUnsupported names what the CPU engine supports and this one does not.
Result<void> check_supported(const ModelConfig& config);

// Loads a checkpoint's weights, converted to `type`. Errors as of Checkpoint::require(). Throws
// CudaError.
Result<DeviceWeights> load_weights(const Checkpoint& checkpoint, const ModelConfig& config,
                                   NumberType type);

// Random weights, the same for the same seed. Their scale keeps activations near 1 and spreads the
// routing over the experts. Throws CudaError.
DeviceWeights random_weights(const ModelConfig& config, NumberType type, uint64_t seed);

}  // namespace moetrace::engine::gpu
