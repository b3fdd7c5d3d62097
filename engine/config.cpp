#include "engine/config.hpp"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string_view>
#include <system_error>
#include <utility>

#include "engine/files.hpp"

namespace moetrace::engine {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr std::string_view kArchitecture = "Qwen2MoeForCausalLM";
constexpr int64_t kMaxLayers = 1024;
// Upper bound of any one dimension, so that a product of two fits 64 bits.
constexpr int64_t kMaxSize = int64_t{1} << 24;

// A JSON value as a message shows it, shortened.
std::string shown_value(const json& value) {
  constexpr size_t kMostCharacters = 60;
  std::string text = value.dump(-1, ' ', /*ensure_ascii=*/true);
  if (text.size() > kMostCharacters) text = text.substr(0, kMostCharacters) + "...";
  return text;
}

// Reads keys and remembers the first error, so that parse_config() reads as a list of keys.
class Reader {
 public:
  explicit Reader(const json& object) : object_(object) {}

  int64_t size(const char* key, int64_t smallest = 1) {
    const json* value = find(key);
    if (value == nullptr) return fail(std::string(key) + " is missing"), smallest;
    return checked_size(key, *value, smallest);
  }
  int64_t size_or(const char* key, int64_t fallback, int64_t smallest = 1) {
    const json* value = find(key);
    return value == nullptr ? fallback : checked_size(key, *value, smallest);
  }
  double number_or(const char* key, double fallback) {
    const json* value = find(key);
    if (value == nullptr) return fallback;
    if (!value->is_number() || !(value->get<double>() > 0)) {
      return fail_value(key, *value, "a number above 0"), fallback;
    }
    return value->get<double>();
  }
  bool flag_or(const char* key, bool fallback) {
    const json* value = find(key);
    if (value == nullptr) return fallback;
    if (!value->is_boolean()) return fail_value(key, *value, "true or false"), fallback;
    return value->get<bool>();
  }
  std::string text_or(const char* key, std::string fallback) {
    const json* value = find(key);
    if (value == nullptr) return fallback;
    if (!value->is_string()) return fail_value(key, *value, "a string"), fallback;
    return value->get<std::string>();
  }
  // One integer, or a list of them.
  std::vector<int64_t> sizes_or_none(const char* key) {
    const json* value = find(key);
    if (value == nullptr) return {};
    if (!value->is_array()) return {checked_size(key, *value, 0)};
    std::vector<int64_t> sizes;
    for (const json& item : *value) sizes.push_back(checked_size(key, item, 0));
    return sizes;
  }
  // nullptr if the key is missing or null.
  const json* find(const char* key) const {
    const auto found = object_.find(key);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }
  void require(bool holds, const std::string& otherwise) {
    if (!holds) fail(otherwise);
  }
  void support(bool holds, const std::string& otherwise) {
    if (!holds && !error_set_) error_ = {ErrorCode::kUnsupported, otherwise}, error_set_ = true;
  }
  bool failed() const { return error_set_; }
  const Error& error() const { return error_; }

 private:
  void fail(const std::string& message) {
    if (!error_set_) error_ = {ErrorCode::kBadModel, message}, error_set_ = true;
  }
  void fail_value(const char* key, const json& value, const std::string& expected) {
    fail(std::string(key) + " is " + shown_value(value) + ", expected " + expected);
  }
  int64_t checked_size(const char* key, const json& value, int64_t smallest) {
    const bool in_range = value.is_number_integer() && value.get<int64_t>() >= smallest &&
                          value.get<int64_t>() <= kMaxSize;
    if (in_range) return value.get<int64_t>();
    fail_value(key, value,
               "an integer from " + std::to_string(smallest) + " to " + std::to_string(kMaxSize));
    return smallest;
  }

  const json& object_;
  Error error_{};
  bool error_set_ = false;
};

void read_architecture(Reader& reader) {
  std::string found = reader.text_or("model_type", "");
  bool known = found == "qwen2_moe";
  if (const json* names = reader.find("architectures");
      names != nullptr && names->is_array() && !names->empty()) {
    known = false;
    found.clear();
    for (const json& name : *names) {
      if (name.is_string())
        known |= name == kArchitecture,
            found += (found.empty() ? "" : ", ") + name.get<std::string>();
    }
  }
  reader.support(known, "architecture " + (found.empty() ? std::string("(none)") : found) +
                            " is not supported, only " + std::string(kArchitecture));
}

// transformers before version 5 writes rope_theta and rope_scaling; from version 5 on it writes
// rope_parameters {rope_type, rope_theta}.
double read_rope_theta(Reader& reader) {
  const double top_level = reader.number_or("rope_theta", 10000.0);
  const json* scaling = reader.find("rope_scaling");
  const json* parameters = reader.find("rope_parameters");
  double theta = top_level;
  for (const json* rope : {scaling, parameters}) {
    if (rope == nullptr) continue;
    if (!rope->is_object()) {
      reader.require(false, std::string(rope == scaling ? "rope_scaling" : "rope_parameters") +
                                " is " + shown_value(*rope) + ", expected an object");
      continue;
    }
    Reader inner(*rope);
    const std::string kind = inner.text_or("rope_type", inner.text_or("type", "default"));
    reader.support(kind == "default", "rope type " + kind + " is not supported");
    reader.support(inner.number_or("partial_rotary_factor", 1.0) == 1.0,
                   "partial rotary embedding is not supported");
    theta = inner.number_or("rope_theta", theta);
    reader.require(!inner.failed(), inner.failed() ? inner.error().message : "");
  }
  return theta;
}

void read_unsupported(Reader& reader) {
  const std::string act = reader.text_or("hidden_act", "silu");
  reader.support(act == "silu" || act == "swish", "activation " + act + " is not supported");
  reader.support(!reader.flag_or("use_sliding_window", false),
                 "sliding-window attention is not supported");
  reader.support(reader.find("quantization_config") == nullptr,
                 "quantised models are not supported");
  if (const json* types = reader.find("layer_types"); types != nullptr && types->is_array()) {
    for (const json& type : *types)
      reader.support(type == "full_attention",
                     "layer type " + shown_value(type) + " is not supported, only full_attention");
  }
}

Dtype read_dtype(Reader& reader) {
  const std::string text = reader.text_or("dtype", reader.text_or("torch_dtype", "float32"));
  for (const Dtype dtype : {Dtype::kFloat32, Dtype::kBfloat16, Dtype::kFloat16}) {
    if (dtype_name(dtype) == text) return dtype;
  }
  reader.support(false, "dtype " + text + " is not supported; float32, bfloat16 and float16 are");
  return Dtype::kFloat32;
}

// The model's name, from the name of its folder. The Hugging Face cache keeps
// Qwen/Qwen1.5-MoE-A2.7B in ".../models--Qwen--Qwen1.5-MoE-A2.7B/snapshots/<hash>".
std::string folder_model_id(const fs::path& folder) {
  std::error_code failed;
  fs::path path = fs::weakly_canonical(folder, failed);
  if (failed || path.empty()) path = folder;
  if (path.parent_path().filename() == "snapshots") {
    std::string name = path.parent_path().parent_path().filename().string();
    if (name.starts_with("models--")) {
      name.erase(0, std::string_view("models--").size());
      if (const size_t cut = name.find("--"); cut != std::string::npos) name.replace(cut, 2, "/");
      return name;
    }
  }
  return path.filename().string();
}

}  // namespace

bool ModelConfig::is_moe_layer(int64_t layer) const {
  // modeling_qwen2_moe.py, Qwen2MoeDecoderLayer.__init__
  const bool dense =
      std::find(mlp_only_layers.begin(), mlp_only_layers.end(), layer) != mlp_only_layers.end();
  return !dense && num_experts > 0 && (layer + 1) % decoder_sparse_step == 0;
}

Result<ModelConfig> parse_config(const json& object) {
  if (!object.is_object()) return Error{ErrorCode::kBadModel, "expected a JSON object"};
  Reader reader(object);
  ModelConfig config;
  read_architecture(reader);
  // Stop here: an error about another architecture's keys would mislead.
  if (reader.failed()) return reader.error();
  read_unsupported(reader);
  config.model_id = reader.text_or("_name_or_path", "");
  config.dtype = read_dtype(reader);
  config.vocab_size = reader.size("vocab_size");
  config.hidden_size = reader.size("hidden_size");
  config.num_layers = reader.size("num_hidden_layers");
  config.num_heads = reader.size("num_attention_heads");
  config.num_kv_heads = reader.size_or("num_key_value_heads", config.num_heads);
  config.head_dim =
      reader.size_or("head_dim", std::max<int64_t>(1, config.hidden_size / config.num_heads));
  config.max_positions = reader.size_or("max_position_embeddings", 32768);
  config.rms_norm_eps = reader.number_or("rms_norm_eps", 1e-6);
  config.rope_theta = read_rope_theta(reader);
  config.qkv_bias = reader.flag_or("qkv_bias", true);
  config.tie_word_embeddings = reader.flag_or("tie_word_embeddings", false);
  config.dense_intermediate_size = reader.size_or("intermediate_size", 5632);
  config.moe_intermediate_size = reader.size("moe_intermediate_size");
  config.shared_intermediate_size = reader.size("shared_expert_intermediate_size");
  config.num_experts = reader.size("num_experts");
  config.top_k = reader.size("num_experts_per_tok");
  config.norm_topk_prob = reader.flag_or("norm_topk_prob", false);
  config.decoder_sparse_step = reader.size_or("decoder_sparse_step", 1);
  config.mlp_only_layers = reader.sizes_or_none("mlp_only_layers");
  config.end_tokens = reader.sizes_or_none("eos_token_id");
  reader.require(config.top_k <= config.num_experts,
                 "num_experts_per_tok is " + std::to_string(config.top_k) +
                     ", but num_experts is only " + std::to_string(config.num_experts));
  reader.require(config.num_heads % config.num_kv_heads == 0,
                 "num_attention_heads is " + std::to_string(config.num_heads) +
                     ", expected a multiple of num_key_value_heads, which is " +
                     std::to_string(config.num_kv_heads));
  reader.require(config.head_dim % 2 == 0, "head_dim is " + std::to_string(config.head_dim) +
                                               ", but rotary embedding needs an even number");
  reader.support(config.num_layers <= kMaxLayers, std::to_string(config.num_layers) +
                                                      " layers are not supported, at most " +
                                                      std::to_string(kMaxLayers));
  if (reader.failed()) return reader.error();
  return config;
}

Result<ModelConfig> load_config(const fs::path& folder) {
  std::error_code failed;
  if (!fs::is_directory(folder, failed)) {
    const bool there = fs::exists(folder, failed);
    return Error{ErrorCode::kNotFound, shown(folder) +
                                           (there ? ": not a folder" : ": no such folder") +
                                           "; give the folder that holds config.json, or make one "
                                           "with moetrace-engine init-model"};
  }
  const fs::path path = folder / "config.json";
  auto object = read_json(path);
  if (!object) return object.error();
  auto config = parse_config(*object);
  if (!config) {
    const bool unsupported = config.error().code == ErrorCode::kUnsupported;
    return in_context(shown(path), config.error(),
                      unsupported
                          ? "give another model, or make one with moetrace-engine init-model"
                          : kDownloadAgain);
  }
  if (config->model_id.empty()) config->model_id = folder_model_id(folder);

  const fs::path generation_path = folder / "generation_config.json";
  if (fs::exists(generation_path, failed)) {
    auto generation = read_json(generation_path);
    if (!generation) return generation.error();
    if (!generation->is_object()) {
      return Error{ErrorCode::kBadModel,
                   shown(generation_path) + ": expected a JSON object; " + kDownloadAgain};
    }
    Reader reader(*generation);
    auto end_tokens = reader.sizes_or_none("eos_token_id");
    if (reader.failed()) return in_context(shown(generation_path), reader.error(), kDownloadAgain);
    if (!end_tokens.empty()) config->end_tokens = std::move(end_tokens);
  }
  return config;
}

}  // namespace moetrace::engine
