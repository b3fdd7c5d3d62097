// config.json and generation_config.json of a Qwen2MoeForCausalLM folder, as transformers writes
// them before and from version 5.
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
  std::string model_id;  // the model's name in the trace
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

  int64_t dense_intermediate_size = 0;  // of the layers without experts
  int64_t moe_intermediate_size = 0;
  int64_t shared_intermediate_size = 0;
  int64_t num_experts = 0;
  int64_t top_k = 0;
  bool norm_topk_prob = false;
  int64_t decoder_sparse_step = 1;
  std::vector<int64_t> mlp_only_layers;

  std::vector<int64_t> end_tokens;  // each of them ends a request

  bool is_moe_layer(int64_t layer) const;
};

// Reads a parsed config.json. kUnsupported: the model needs what this engine does not implement.
// kBadModel: a key is missing, has a bad value, or contradicts another.
Result<ModelConfig> parse_config(const nlohmann::json& json);

// Reads config.json, and generation_config.json if the folder has one.
Result<ModelConfig> load_config(const std::filesystem::path& folder);

}  // namespace moetrace::engine
