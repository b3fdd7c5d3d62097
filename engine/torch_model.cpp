#include "engine/torch_model.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <dlfcn.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <new>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/attention.hpp"
#include "engine/files.hpp"
#include "engine/moe.hpp"
#include "engine/torch_tracer.hpp"
#include "engine/weights.hpp"

namespace moetrace::engine {

namespace {

struct Linear {
  Weight weight;
  Weight bias;  // undefined if the layer has none

  at::Tensor forward(const at::Tensor& x) const {
    at::Tensor y = weight.linear(x);
    return bias.stored().defined() ? y.add_(bias.float32()) : y;
  }
};

struct Layer {
  Weight input_norm;
  Linear query, key, value;
  Weight output;
  Weight mlp_norm;
  // One of the two, the other is nullptr.
  std::unique_ptr<MoeBlock> moe;
  std::unique_ptr<Mlp> dense;
};

at::Tensor rms_norm(const at::Tensor& x, const Weight& weight, double epsilon) {
  const at::Tensor variance = x.square().mean(-1, /*keepdim=*/true);
  return x.mul(variance.add_(epsilon).rsqrt_()).mul_(weight.float32());
}

Layer load_layer(WeightLoader& loader, const ModelConfig& config, int64_t index) {
  const std::string prefix = "model.layers." + std::to_string(index) + ".";
  const int64_t hidden = config.hidden_size;
  const int64_t query_size = config.num_heads * config.head_dim;
  const int64_t kv_size = config.num_kv_heads * config.head_dim;
  const auto projection = [&](const std::string& name, int64_t size) {
    const std::string at = prefix + "self_attn." + name;
    return Linear{loader.get(at + ".weight", {size, hidden}),
                  config.qkv_bias ? loader.get(at + ".bias", {size}) : Weight()};
  };
  Layer layer;
  layer.input_norm = loader.get(prefix + "input_layernorm.weight", {hidden});
  layer.query = projection("q_proj", query_size);
  layer.key = projection("k_proj", kv_size);
  layer.value = projection("v_proj", kv_size);
  layer.output = loader.get(prefix + "self_attn.o_proj.weight", {hidden, query_size});
  layer.mlp_norm = loader.get(prefix + "post_attention_layernorm.weight", {hidden});
  if (config.is_moe_layer(index)) {
    layer.moe = std::make_unique<MoeBlock>(MoeBlock::load(loader, prefix + "mlp.", config));
  } else {
    layer.dense = std::make_unique<Mlp>(
        Mlp::load(loader, prefix + "mlp.", hidden, config.dense_intermediate_size));
  }
  return layer;
}

// libtorch's message without its stack trace, on one line.
std::string first_line(const std::exception& error) {
  const auto* torch_error = dynamic_cast<const c10::Error*>(&error);
  std::string text = torch_error != nullptr ? torch_error->what_without_backtrace() : error.what();
  return text.substr(0, text.find('\n'));
}

// Turns an exception of libtorch into an Error.
template <class Work>
auto caught(const Work& work) -> Result<decltype(work())> {
  try {
    return work();
  } catch (const std::bad_alloc&) {
    return Error{ErrorCode::kNoMemory, std::string("not enough memory") + kLessMemory};
  } catch (const std::exception& error) {
    const std::string why = first_line(error);
    const bool memory =
        why.find("allocate") != std::string::npos || why.find("out of memory") != std::string::npos;
    return Error{memory ? ErrorCode::kNoMemory : ErrorCode::kFailed,
                 "libtorch: " + why + (memory ? kLessMemory : kReport)};
  }
}

constexpr int64_t kManyThreadsHidden = 512;

// Sets libtorch's threads, as some builds (Debian's among them) start with one. A model below
// kManyThreadsHidden gets one: its operators are so short that several threads would mostly wait
// for each other, above all on cores that other programs use too.
void choose_threads(const ModelConfig& config) {
  if (std::getenv("OMP_NUM_THREADS") != nullptr) return;  // the user has chosen
  const int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  const int threads = config.hidden_size < kManyThreadsHidden ? 1 : cores;
  at::set_num_threads(threads);
  // OpenBLAS has threads of its own, which at::set_num_threads() does not change.
  if (auto* set =
          reinterpret_cast<void (*)(int)>(::dlsym(RTLD_DEFAULT, "openblas_set_num_threads")))
    set(threads);
}

struct Parts {
  Checkpoint checkpoint;  // owns the mapped bytes that the tensors view
  ModelConfig config;
  Weight embedding;
  std::vector<Layer> layers;
  Weight norm;
  Weight head;

  at::Tensor attention(const Layer& layer, int64_t index, const at::Tensor& x, const Pass& pass,
                       const Rotation& rotation) const;
  at::Tensor hidden(const Pass& pass, RouterHook* hook) const;
};

at::Tensor Parts::attention(const Layer& layer, int64_t index, const at::Tensor& x,
                            const Pass& pass, const Rotation& rotation) const {
  const int64_t rows = x.size(0);
  const at::Tensor query =
      rotate(layer.query.forward(x).view({rows, config.num_heads, config.head_dim}), rotation);
  const at::Tensor key =
      rotate(layer.key.forward(x).view({rows, config.num_kv_heads, config.head_dim}), rotation);
  const at::Tensor value =
      layer.value.forward(x).view({rows, config.num_kv_heads, config.head_dim});
  std::vector<at::Tensor> outputs;
  outputs.reserve(pass.spans.size());
  int64_t row = 0;
  for (const PassSpan& span : pass.spans) {
    const TorchKvCache::View past =
        static_cast<TorchKvCache*>(span.cache)
            ->append(index, span.first_position, key.narrow(0, row, span.rows),
                     value.narrow(0, row, span.rows));
    outputs.push_back(attend(query.narrow(0, row, span.rows), past, span.first_position));
    row += span.rows;
  }
  return layer.output.linear(at::cat(outputs, 0));
}

at::Tensor Parts::hidden(const Pass& pass, RouterHook* hook) const {
  const auto rows = static_cast<int64_t>(pass.tokens.size());
  at::Tensor positions = at::empty({rows}, at::kLong);
  at::Tensor tokens = at::empty({rows}, at::kLong);
  std::copy(pass.tokens.begin(), pass.tokens.end(), tokens.data_ptr<int64_t>());
  auto* position = positions.data_ptr<int64_t>();
  for (const PassSpan& span : pass.spans) {
    for (int64_t i = 0; i < span.rows; ++i) *position++ = span.first_position + i;
  }
  const Rotation rotation = rotation_at(positions, config);
  at::Tensor x = embedding.stored().index_select(0, tokens).to(at::kFloat);
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const Layer& layer = layers[static_cast<size_t>(i)];
    x = x.add(
        attention(layer, i, rms_norm(x, layer.input_norm, config.rms_norm_eps), pass, rotation));
    const at::Tensor normed = rms_norm(x, layer.mlp_norm, config.rms_norm_eps);
    x = x.add(layer.moe ? layer.moe->forward(normed, i, hook) : layer.dense->forward(normed));
  }
  return rms_norm(x, norm, config.rms_norm_eps);
}

class TorchModel final : public Model {
 public:
  explicit TorchModel(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

  const ModelConfig& config() const override { return parts_->config; }

  Result<std::shared_ptr<KvCache>> new_cache(int64_t capacity) const override {
    return caught([&]() -> std::shared_ptr<KvCache> {
      const c10::InferenceMode inference;
      return std::make_shared<TorchKvCache>(parts_->config, capacity);
    });
  }

  Result<std::vector<int64_t>> next_tokens(const Pass& pass, RouterHook* hook) const override {
    return caught([&] {
      const c10::InferenceMode inference;
      const at::Tensor all = parts_->hidden(pass, hook);
      at::Tensor last = at::empty({static_cast<int64_t>(pass.spans.size())}, at::kLong);
      int64_t row = -1;
      auto* to = last.data_ptr<int64_t>();
      for (const PassSpan& span : pass.spans) *to++ = row += span.rows;
      const at::Tensor logits = parts_->head.linear(all.index_select(0, last));
      const at::Tensor best = logits.argmax(-1);
      const auto* ids = best.data_ptr<int64_t>();
      return std::vector<int64_t>(ids, ids + best.numel());
    });
  }

  Result<std::vector<float>> logits(const Pass& pass, RouterHook* hook) const override {
    return caught([&] {
      const c10::InferenceMode inference;
      const at::Tensor all = parts_->head.linear(parts_->hidden(pass, hook)).contiguous();
      const auto* values = all.data_ptr<float>();
      return std::vector<float>(values, values + all.numel());
    });
  }

  Result<std::unique_ptr<Tracer>> open_tracer(int64_t seed) const override {
    return TorchTracer::open(parts_->config, seed);
  }

 private:
  std::unique_ptr<Parts> parts_;
};

}  // namespace

Result<std::unique_ptr<Model>> load_torch_model(const std::filesystem::path& folder) {
  const c10::InferenceMode inference;
  auto config = load_config(folder);
  if (!config) return config.error();
  auto checkpoint = Checkpoint::open(folder);
  if (!checkpoint) return checkpoint.error();
  choose_threads(*config);
  auto parts = std::make_unique<Parts>();
  parts->config = std::move(*config);
  parts->checkpoint = std::move(*checkpoint);
  WeightLoader loader(parts->checkpoint);
  auto loaded = caught([&] {
    const ModelConfig& c = parts->config;
    parts->embedding = loader.get("model.embed_tokens.weight", {c.vocab_size, c.hidden_size});
    for (int64_t i = 0; i < c.num_layers && !loader.error(); ++i)
      parts->layers.push_back(load_layer(loader, c, i));
    parts->norm = loader.get("model.norm.weight", {c.hidden_size});
    parts->head = c.tie_word_embeddings
                      ? parts->embedding
                      : loader.get("lm_head.weight", {c.vocab_size, c.hidden_size});
    return true;
  });
  if (!loaded) return in_context(shown(folder), loaded.error());
  if (loader.error()) return in_context(shown(folder), *loader.error());
  return std::unique_ptr<Model>(std::make_unique<TorchModel>(std::move(parts)));
}

}  // namespace moetrace::engine
