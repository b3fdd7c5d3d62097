#include "engine/init_model.hpp"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "engine/byte_level.hpp"
#include "engine/files.hpp"
#include "engine/random_weights.hpp"

namespace moetrace::engine {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

namespace {

constexpr int64_t kVocab = 257;  // 256 bytes and kEndOfText
constexpr int64_t kHidden = 64;
constexpr int64_t kHeads = 4;
constexpr int64_t kLayers = 24;
constexpr int64_t kExperts = 60;
constexpr int64_t kTopK = 4;
constexpr int64_t kExpertSize = 32;
constexpr int64_t kSharedSize = 128;
constexpr int64_t kMaxPositions = 8192;
constexpr int64_t kEndOfText = 256;
// A key of config.json. Marks a folder that init_model() wrote and may write again.
constexpr const char* kMarker = "moetrace_seed";

// A weight is a number of its RandomStream (standard deviation 37) times 2^-exponent. With 64
// inputs of size 1, 2^-8 keeps a projection's output near 1. The exponents were chosen by
// experiment. Sharp attention and strong experts make the text depend on the context; without them
// the model repeats one token. Large embeddings keep float32's rounding noise from growing through
// 24 layers: between float32 and float64 the router's probabilities differ by 1e-6, while
// neighbouring probabilities typically differ by 1e-3.
constexpr int kEmbeddingExponent = 3;
constexpr int kQueryKeyExponent = 7;
constexpr int kProjectionExponent = 8;
constexpr int kExpertExponent = 7;
constexpr int kSharedExponent = 8;
constexpr int kRouterExponent = 8;
constexpr int kBiasExponent = 9;
// All embeddings share one vector of a quarter of their size: some experts become popular, as in
// trained models.
constexpr int kCommonPart = 4;

enum class Fill { kOnes, kRandom, kRandomWithCommonPart };

struct Spec {
  TensorEntry entry;
  Fill fill;
  int exponent;
};

std::vector<Spec> tensor_list(Dtype dtype) {
  std::vector<Spec> specs;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape, Fill fill,
                       int exponent) {
    specs.push_back({{name, dtype, std::move(shape)}, fill, exponent});
  };
  const auto mlp = [&](const std::string& prefix, int64_t inner, int exponent) {
    add(prefix + "gate_proj.weight", {inner, kHidden}, Fill::kRandom, exponent);
    add(prefix + "up_proj.weight", {inner, kHidden}, Fill::kRandom, exponent);
    add(prefix + "down_proj.weight", {kHidden, inner}, Fill::kRandom, exponent + 1);
  };
  add("model.embed_tokens.weight", {kVocab, kHidden}, Fill::kRandomWithCommonPart,
      kEmbeddingExponent);
  for (int64_t i = 0; i < kLayers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    add(layer + "input_layernorm.weight", {kHidden}, Fill::kOnes, 0);
    for (const std::string name : {"q_proj", "k_proj", "v_proj"}) {
      const int exponent = name == "v_proj" ? kProjectionExponent : kQueryKeyExponent;
      add(layer + "self_attn." + name + ".weight", {kHidden, kHidden}, Fill::kRandom, exponent);
      add(layer + "self_attn." + name + ".bias", {kHidden}, Fill::kRandom, kBiasExponent);
    }
    add(layer + "self_attn.o_proj.weight", {kHidden, kHidden}, Fill::kRandom, kProjectionExponent);
    add(layer + "post_attention_layernorm.weight", {kHidden}, Fill::kOnes, 0);
    add(layer + "mlp.gate.weight", {kExperts, kHidden}, Fill::kRandom, kRouterExponent);
    for (int64_t e = 0; e < kExperts; ++e)
      mlp(layer + "mlp.experts." + std::to_string(e) + ".", kExpertSize, kExpertExponent);
    mlp(layer + "mlp.shared_expert.", kSharedSize, kSharedExponent);
    add(layer + "mlp.shared_expert_gate.weight", {1, kHidden}, Fill::kRandom, kProjectionExponent);
  }
  add("model.norm.weight", {kHidden}, Fill::kOnes, 0);
  add("lm_head.weight", {kVocab, kHidden}, Fill::kRandom, kProjectionExponent);
  return specs;
}

std::string tensor_bytes(const Spec& spec, uint64_t seed) {
  uint64_t count = 1;
  for (const int64_t size : spec.entry.shape) count *= static_cast<uint64_t>(size);
  const auto columns = static_cast<uint64_t>(spec.entry.shape.back());
  const RandomStream stream(seed, spec.entry.name);
  const RandomStream common(seed, spec.entry.name + "/common");
  std::string bytes;
  bytes.reserve(count * dtype_bytes(spec.entry.dtype));
  for (uint64_t i = 0; i < count; ++i) {
    int n = spec.fill == Fill::kOnes ? 1 : stream.at(i);
    if (spec.fill == Fill::kRandomWithCommonPart) n += common.at(i % columns) / kCommonPart;
    append_scaled(bytes, spec.entry.dtype, n, spec.exponent);
  }
  return bytes;
}

ordered_json config_json(uint64_t seed, Dtype dtype) {
  return {{"architectures", {"Qwen2MoeForCausalLM"}},
          {"_name_or_path", "moetrace/random-qwen2-moe"},
          {"model_type", "qwen2_moe"},
          {"vocab_size", kVocab},
          {"hidden_size", kHidden},
          {"intermediate_size", kSharedSize},
          {"num_hidden_layers", kLayers},
          {"num_attention_heads", kHeads},
          {"num_key_value_heads", kHeads},
          {"hidden_act", "silu"},
          {"max_position_embeddings", kMaxPositions},
          {"rms_norm_eps", 1e-06},
          {"rope_theta", 1000000.0},
          {"tie_word_embeddings", false},
          {"use_sliding_window", false},
          {"decoder_sparse_step", 1},
          {"mlp_only_layers", ordered_json::array()},
          {"moe_intermediate_size", kExpertSize},
          {"shared_expert_intermediate_size", kSharedSize},
          {"num_experts", kExperts},
          {"num_experts_per_tok", kTopK},
          {"norm_topk_prob", false},
          {"output_router_logits", false},
          {"eos_token_id", kEndOfText},
          {"torch_dtype", dtype_name(dtype)},
          {kMarker, seed}};
}

ordered_json tokenizer_json() {
  ordered_json vocab = ordered_json::object();
  for (int byte = 0; byte < 256; ++byte)
    vocab[to_byte_level(std::string(1, static_cast<char>(byte)))] = byte;
  const ordered_json byte_level = {{"type", "ByteLevel"},
                                   {"add_prefix_space", false},
                                   {"trim_offsets", false},
                                   {"use_regex", false}};
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens",
           {{{"id", kEndOfText},
             {"content", "<|endoftext|>"},
             {"single_word", false},
             {"lstrip", false},
             {"rstrip", false},
             {"normalized", false},
             {"special", true}}}},
          {"normalizer", nullptr},
          {"pre_tokenizer", byte_level},
          {"post_processor", nullptr},
          {"decoder", byte_level},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"vocab", vocab},
            {"merges", ordered_json::array()}}}};
}

// Makes the folder, or checks that an existing one is empty or was written by init_model().
Result<void> claim(const fs::path& folder) {
  const auto refuse = [&](const std::string& why) {
    return Error{ErrorCode::kCantWrite, shown(folder) + ": " + why};
  };
  std::error_code failed;
  fs::create_directories(folder, failed);
  if (failed) return refuse("can't create the folder: " + failed.message() + "; choose another");
  if (!fs::is_directory(folder, failed)) return refuse("not a folder; choose another path");
  const auto entries = fs::directory_iterator(folder, failed);
  if (failed) return refuse("can't read the folder: " + failed.message() + "; choose another");
  if (entries == fs::directory_iterator()) return {};
  const auto config = read_json(folder / "config.json");
  if (config && config->is_object() && config->contains(kMarker)) return {};
  return refuse("holds files that init-model did not write; choose another folder");
}

Result<void> write_weights(const fs::path& path, uint64_t seed, Dtype dtype) {
  const std::vector<Spec> specs = tensor_list(dtype);
  std::vector<TensorEntry> entries;
  entries.reserve(specs.size());
  for (const Spec& spec : specs) entries.push_back(spec.entry);
  errno = 0;
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out << safetensors_header(entries);
  for (const Spec& spec : specs) {
    const std::string bytes = tensor_bytes(spec, seed);
    out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }
  out.close();
  if (!out) {
    return Error{ErrorCode::kCantWrite, shown(path) + ": can't write the file: " +
                                            (errno != 0 ? std::strerror(errno) : "unknown reason") +
                                            "; free some space, or choose another folder"};
  }
  return {};
}

}  // namespace

Result<void> init_model(const fs::path& folder, uint64_t seed, Dtype dtype) {
  if (auto claimed = claim(folder); !claimed) return claimed.error();
  const ordered_json generation = {
      {"bos_token_id", kEndOfText}, {"eos_token_id", {kEndOfText}}, {"do_sample", false}};
  const ordered_json tokenizer_config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                                         {"eos_token", "<|endoftext|>"},
                                         {"pad_token", "<|endoftext|>"},
                                         {"model_max_length", kMaxPositions}};
  const std::pair<const char*, ordered_json> files[] = {
      {"config.json", config_json(seed, dtype)},
      {"generation_config.json", generation},
      {"tokenizer.json", tokenizer_json()},
      {"tokenizer_config.json", tokenizer_config}};
  for (const auto& [name, content] : files) {
    if (auto written = write_file(folder / name, content.dump(2) + "\n"); !written)
      return written.error();
  }
  return write_weights(folder / "model.safetensors", seed, dtype);
}

}  // namespace moetrace::engine
