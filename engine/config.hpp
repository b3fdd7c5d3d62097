// config.json and generation_config.json of a Qwen2MoeForCausalLM folder, as old and new
// transformers write them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "engine/errors.hpp"
#include "engine/safetensors.hpp"

namespace moetrace::engine {

struct ModelConfig {
  std::string model_id;  // what the trace calls it
  Dtype dtype = Dtype::kFloat32;
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;  // divides num_heads
  int64_t head_dim = 0;      // even
  int64_t max_positions = 0;
  double rms_norm_eps = 1e-6;
  double rope_theta = 10000.0;
  bool qkv_bias = true;
  bool tie_word_embeddings = false;

  int64_t dense_intermediate_size = 0;  // of layers that are no MoE layers
  int64_t moe_intermediate_size = 0;
  int64_t shared_intermediate_size = 0;
  int64_t num_experts = 0;
  int64_t top_k = 0;
  bool norm_topk_prob = false;
  int64_t decoder_sparse_step = 1;
  std::vector<int64_t> mlp_only_layers;

  std::vector<int64_t> end_tokens;  // any of them ends a request

  bool is_moe_layer(int64_t layer) const;
};

// From a parsed config.json; kUnsupported names what this engine does not do, kBadModel what
// contradicts itself.
Result<ModelConfig> parse_config(const nlohmann::json& json);

// Reads config.json, and generation_config.json where it is there.
Result<ModelConfig> load_config(const std::filesystem::path& folder);

}  // namespace moetrace::engine
