#include "engine/cuda/device_weights.hpp"

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "engine/cuda/attention_kernels.hpp"
#include "engine/cuda/row_kernels.hpp"

namespace moetrace::engine::gpu {

namespace {

using Shape = std::vector<int64_t>;

int64_t elements(const Shape& shape) {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return count;
}

// Where a weight goes: device memory, and the type there.
struct Place {
  void* to;
  NumberType type;
};

// Where weights come from: a checkpoint or random numbers.
class Source {
 public:
  virtual ~Source() = default;
  virtual bool has(const std::string& name) const = 0;
  virtual void put(const std::string& name, const Shape& shape, const Place& place) = 0;
};

float half_to_float(uint16_t half) {
  const int exponent = half >> 10 & 31;
  const auto fraction = static_cast<float>(half & 1023);
  const float sign = (half & 0x8000) != 0 ? -1.0f : 1.0f;
  if (exponent == 31) return fraction == 0 ? sign * INFINITY : NAN;
  if (exponent == 0) return sign * std::ldexp(fraction, -24);
  return sign * std::ldexp(1024.0f + fraction, exponent - 25);
}

float number_at(const TensorView& view, size_t index) {
  const std::byte* from = view.bytes.data() + index * dtype_bytes(view.dtype);
  if (view.dtype == Dtype::kFloat32) {
    float number = 0;
    std::memcpy(&number, from, sizeof number);
    return number;
  }
  uint16_t bits = 0;
  std::memcpy(&bits, from, sizeof bits);
  return view.dtype == Dtype::kBfloat16 ? std::bit_cast<float>(uint32_t{bits} << 16)
                                        : half_to_float(bits);
}

// Rounds to nearest, ties to even.
uint16_t to_bfloat16(float number) {
  if (std::isnan(number)) return 0x7fff;
  const auto bits = std::bit_cast<uint32_t>(number);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// Remembers the first error, so that loading reads as a list of names.
class CheckpointSource final : public Source {
 public:
  explicit CheckpointSource(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}
  const std::optional<Error>& error() const { return error_; }

  bool has(const std::string& name) const override { return checkpoint_.find(name) != nullptr; }

  void put(const std::string& name, const Shape& shape, const Place& place) override {
    if (error_) return;
    const auto view = checkpoint_.require(name, shape);
    if (view) {
      copy(**view, static_cast<size_t>(elements(shape)), place);
    } else {
      error_ = view.error();
    }
  }

 private:
  void copy(const TensorView& view, size_t count, const Place& place) {
    const size_t bytes = count * bytes_of(place.type);
    const bool same =
        view.dtype == (place.type == NumberType::kBfloat16 ? Dtype::kBfloat16 : Dtype::kFloat32);
    const void* from = view.bytes.data();
    if (!same) {
      converted_.resize(bytes);
      for (size_t i = 0; i < count; ++i) {
        const float number = number_at(view, i);
        if (place.type == NumberType::kFloat32) {
          std::memcpy(converted_.data() + i * 4, &number, 4);
        } else {
          const uint16_t bits = to_bfloat16(number);
          std::memcpy(converted_.data() + i * 2, &bits, 2);
        }
      }
      from = converted_.data();
    }
    check(cudaMemcpy(place.to, from, bytes, cudaMemcpyHostToDevice), "copying weights");
  }

  const Checkpoint& checkpoint_;
  std::optional<Error> error_;
  std::vector<std::byte> converted_;
};

// Norms are 1. Matrices keep the magnitude of their input. The router is a little sharper, as in
// trained models.
class RandomSource final : public Source {
 public:
  explicit RandomSource(uint64_t seed) : seed_(seed) {}
  bool has(const std::string&) const override { return false; }
  void put(const std::string& name, const Shape& shape, const Place& place) override {
    const int64_t count = elements(shape);
    if (name.ends_with("norm.weight")) {
      fill(static_cast<float*>(place.to), count, 1.0f, nullptr);
      return;
    }
    float deviation = 0.1f;  // biases
    if (shape.size() > 1) deviation = 1.0f / std::sqrt(static_cast<float>(shape.back()));
    if (name.ends_with("embed_tokens.weight")) deviation = 1.0f;
    if (name.ends_with("mlp.gate.weight")) deviation *= 1.5f;
    fill_random(place.type, place.to, count, std::hash<std::string>()(name) ^ seed_, deviation,
                nullptr);
  }

 private:
  uint64_t seed_;
};

class Builder {
 public:
  Builder(const ModelConfig& config, NumberType type, Source& source)
      : config_(config), type_(type), source_(source) {}

  DeviceWeights build() {
    DeviceWeights weights;
    weights.type = type_;
    const Shape table = {config_.vocab_size, config_.hidden_size};
    weights.embedding = matrix("model.embed_tokens.weight", table);
    for (int64_t i = 0; i < config_.num_layers; ++i) weights.layers.push_back(layer(i));
    weights.norm = vector("model.norm.weight", config_.hidden_size);
    if (!config_.tie_word_embeddings) weights.own_head = matrix("lm_head.weight", table);
    return weights;
  }

 private:
  DeviceMemory room(int64_t count) const {
    return DeviceMemory(static_cast<size_t>(count) * bytes_of(type_));
  }
  void put(const std::string& name, const Shape& shape, const DeviceMemory& to, int64_t at = 0) {
    source_.put(
        name, shape,
        {static_cast<std::byte*>(to.get()) + static_cast<size_t>(at) * bytes_of(type_), type_});
  }
  DeviceMemory matrix(const std::string& name, const Shape& shape) {
    DeviceMemory to = room(elements(shape));
    put(name, shape, to);
    return to;
  }
  DeviceArray<float> vector(const std::string& name, int64_t size) {
    DeviceArray<float> to(size);
    source_.put(name, {size}, {to.get(), NumberType::kFloat32});
    return to;
  }

  LayerWeights layer(int64_t index) {
    const std::string prefix = "model.layers." + std::to_string(index) + ".";
    const int64_t hidden = config_.hidden_size;
    const int64_t query = config_.num_heads * config_.head_dim;
    const int64_t kv = config_.num_kv_heads * config_.head_dim;
    LayerWeights layer;
    layer.attention_norm = vector(prefix + "input_layernorm.weight", hidden);
    layer.qkv = room((query + 2 * kv) * hidden);
    if (config_.qkv_bias) layer.qkv_bias = DeviceArray<float>(query + 2 * kv);
    int64_t row = 0;
    for (const auto& [name, size] : {std::pair{"q_proj", query}, {"k_proj", kv}, {"v_proj", kv}}) {
      const std::string at = prefix + "self_attn." + name;
      put(at + ".weight", {size, hidden}, layer.qkv, row * hidden);
      if (config_.qkv_bias)
        source_.put(at + ".bias", {size}, {layer.qkv_bias.get() + row, NumberType::kFloat32});
      row += size;
    }
    layer.attention_out = matrix(prefix + "self_attn.o_proj.weight", {hidden, query});
    layer.mlp_norm = vector(prefix + "post_attention_layernorm.weight", hidden);
    layer.moe = config_.is_moe_layer(index);
    layer.shared_inner =
        layer.moe ? config_.shared_intermediate_size : config_.dense_intermediate_size;
    const std::string mlp = prefix + "mlp.";
    const std::string shared = layer.moe ? mlp + "shared_expert." : mlp;
    layer.shared_gate_up = room(2 * layer.shared_inner * hidden);
    layer.shared_down = room(hidden * layer.shared_inner);
    one_mlp(shared, layer.shared_inner, layer.shared_gate_up, 0, layer.shared_down, 0);
    if (layer.moe) experts(mlp, layer);
    return layer;
  }

  void one_mlp(const std::string& prefix, int64_t inner, const DeviceMemory& gate_up,
               int64_t gate_up_at, const DeviceMemory& down, int64_t down_at) {
    const int64_t hidden = config_.hidden_size;
    put(prefix + "gate_proj.weight", {inner, hidden}, gate_up, gate_up_at);
    put(prefix + "up_proj.weight", {inner, hidden}, gate_up, gate_up_at + inner * hidden);
    put(prefix + "down_proj.weight", {hidden, inner}, down, down_at);
  }

  void experts(const std::string& mlp, LayerWeights& layer) {
    const int64_t hidden = config_.hidden_size;
    const int64_t inner = config_.moe_intermediate_size;
    const int64_t count = config_.num_experts;
    layer.router = room(logit_columns(count) * hidden);
    check(cudaMemset(layer.router.get(), 0,
                     static_cast<size_t>(logit_columns(count) * hidden) * bytes_of(type_)),
          "router");
    put(mlp + "gate.weight", {count, hidden}, layer.router);
    put(mlp + "shared_expert_gate.weight", {1, hidden}, layer.router, count * hidden);
    layer.gate_up = room(count * 2 * inner * hidden);
    layer.down = room(count * hidden * inner);
    if (source_.has(mlp + "experts.gate_up_proj")) {  // as transformers from version 5 on
      put(mlp + "experts.gate_up_proj", {count, 2 * inner, hidden}, layer.gate_up);
      put(mlp + "experts.down_proj", {count, hidden, inner}, layer.down);
      return;
    }
    for (int64_t e = 0; e < count; ++e) {
      one_mlp(mlp + "experts." + std::to_string(e) + ".", inner, layer.gate_up,
              e * 2 * inner * hidden, layer.down, e * hidden * inner);
    }
  }

  const ModelConfig& config_;
  NumberType type_;
  Source& source_;
};

}  // namespace

Result<void> check_supported(const ModelConfig& config) {
  const auto unsupported = [](const std::string& what) {
    return Error{ErrorCode::kUnsupported,
                 "--device cuda does not support " + what + "; use --device cpu"};
  };
  const int64_t dim = config.head_dim;
  if (dim < 8 || dim > kMostHeadDim || (dim & (dim - 1)) != 0)
    return unsupported("head_dim " + std::to_string(dim) + ", only 8, 16, 32, 64, 128 and 256");
  for (const auto& [name, width] :
       {std::pair{"hidden_size", config.hidden_size},
        {"moe_intermediate_size", config.moe_intermediate_size},
        {"shared_expert_intermediate_size", config.shared_intermediate_size},
        {"intermediate_size", config.dense_intermediate_size}}) {
    if (width % 8 != 0)
      return unsupported(std::string(name) + " " + std::to_string(width) + ", only multiples of 8");
  }
  if (config.num_experts > 2048 || config.top_k > 32)
    return unsupported("top-" + std::to_string(config.top_k) + " routing over " +
                       std::to_string(config.num_experts) + " experts, at most top-32 over 2048");
  return {};
}

Result<DeviceWeights> load_weights(const Checkpoint& checkpoint, const ModelConfig& config,
                                   NumberType type) {
  CheckpointSource source(checkpoint);
  DeviceWeights weights = Builder(config, type, source).build();
  if (source.error()) return *source.error();
  return weights;
}

DeviceWeights random_weights(const ModelConfig& config, NumberType type, uint64_t seed) {
  RandomSource source(seed);
  DeviceWeights weights = Builder(config, type, source).build();
  check(cudaDeviceSynchronize(), "random weights");
  return weights;
}

}  // namespace moetrace::engine::gpu
