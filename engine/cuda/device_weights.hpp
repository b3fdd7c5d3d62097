// A model's weights in device memory, laid out as the kernels read them.
#pragma once

#include <vector>

#include "engine/config.hpp"
#include "engine/cuda/device_array.hpp"
#include "engine/cuda/number_type.hpp"

namespace moetrace::engine::gpu {

// Of `type`, except norms and biases, which are float.
struct LayerWeights {
  DeviceArray<float> attention_norm;  // [hidden]
  DeviceMemory qkv;                   // [(heads + 2 * kv_heads) * head_dim, hidden]
  DeviceArray<float> qkv_bias;        // the same rows; null: none
  DeviceMemory attention_out;         // [hidden, heads * head_dim]
  DeviceArray<float> mlp_norm;        // [hidden]
  bool moe = false;
  // The shared expert, or the layer's only MLP if it is no MoE layer.
  DeviceMemory shared_gate_up;  // [2 * inner, hidden]
  DeviceMemory shared_down;     // [hidden, inner]
  int64_t shared_inner = 0;
  // Only of MoE layers.
  DeviceMemory router;   // [logit_columns, hidden]: the experts, the shared expert's gate, zeros
  DeviceMemory gate_up;  // [experts, 2 * inner, hidden]
  DeviceMemory down;     // [experts, hidden, inner]
};

struct DeviceWeights {
  NumberType type = NumberType::kBfloat16;
  DeviceMemory embedding;  // [vocab, hidden]
  DeviceMemory own_head;   // [vocab, hidden]; null: the embedding is the head too
  DeviceArray<float> norm;
  std::vector<LayerWeights> layers;

  const void* head() const { return own_head.get() != nullptr ? own_head.get() : embedding.get(); }
};

// kUnsupported: what the CPU engine does and this one does not.
Result<void> check_supported(const ModelConfig& config);

// From a model's checkpoint, converted to `type`. kBadModel as WeightLoader. Throws CudaError.
Result<DeviceWeights> load_weights(const Checkpoint& checkpoint, const ModelConfig& config,
                                   NumberType type);

// Random ones, the same for the same seed, scaled so that activations stay near 1 and the routing
// is spread over the experts. Throws CudaError.
DeviceWeights random_weights(const ModelConfig& config, NumberType type, uint64_t seed);

}  // namespace moetrace::engine::gpu
