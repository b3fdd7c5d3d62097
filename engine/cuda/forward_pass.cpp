#include "engine/cuda/forward_pass.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "engine/cuda/grouped_matmul.hpp"

namespace moetrace::engine::gpu {

namespace {

// The workspace size that cuBLAS recommends for Hopper. This class owns that memory, so that its
// address stays valid for captured products.
constexpr size_t kCublasBytes = size_t{32} << 20;

// The same float32 operations as Qwen2MoeRotaryEmbedding.
std::vector<float> inverse_frequencies(const ModelConfig& config) {
  std::vector<float> frequencies;
  for (int64_t i = 0; i < config.head_dim; i += 2) {
    const float exponent = static_cast<float>(i) / static_cast<float>(config.head_dim);
    frequencies.push_back(1.0f / std::pow(static_cast<float>(config.rope_theta), exponent));
  }
  return frequencies;
}

int narrow(int64_t number) {
  return static_cast<int>(number);
}

const __nv_bfloat16* bf16(const DeviceMemory& memory) {
  return static_cast<const __nv_bfloat16*>(memory.get());
}

}  // namespace

ForwardPass::ForwardPass(const ModelConfig& config, DeviceWeights weights, cudaStream_t stream)
    : config_(config), weights_(std::move(weights)), stream_(stream) {
  check(cublasCreate(&cublas_), "cublas");
  cublas_memory_ = DeviceMemory(kCublasBytes);
  check(cublasSetStream(cublas_, stream), "cublas");
  check(cublasSetWorkspace(cublas_, cublas_memory_.get(), kCublasBytes), "cublas");
  const std::vector<float> frequencies = inverse_frequencies(config);
  inverse_frequency_ = DeviceArray<float>(static_cast<int64_t>(frequencies.size()));
  check(cudaMemcpy(inverse_frequency_.get(), frequencies.data(), frequencies.size() * sizeof(float),
                   cudaMemcpyHostToDevice),
        "copying frequencies");
  const int64_t widest = std::max(config.hidden_size, config.num_heads * config.head_dim);
  fused_fits_ = type() == NumberType::kBfloat16 &&
                fused_decode_fits(widest, config.num_experts, config.top_k);
}

ForwardPass::~ForwardPass() {
  cublasDestroy(cublas_);
}

// y [rows, out] = x [rows, in] times the transpose of weight [out, in], plus beta y. cuBLAS is
// column-major, so it computes the transpose of y: weight times the transpose of x. float32
// products stay in float32, without TF32.
void ForwardPass::multiply(const void* x, const void* weight, int64_t in, int64_t out, float beta,
                           float* y, int rows) const {
  const cudaDataType_t number = type() == NumberType::kBfloat16 ? CUDA_R_16BF : CUDA_R_32F;
  const float alpha = 1.0f;
  check(cublasGemmEx(cublas_, CUBLAS_OP_T, CUBLAS_OP_N, narrow(out), rows, narrow(in), &alpha,
                     weight, number, narrow(in), x, number, narrow(in), &beta, y, CUDA_R_32F,
                     narrow(out), CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
        "matrix product");
}

AttentionShape ForwardPass::attention_shape(int64_t index) const {
  return {.heads = narrow(config_.num_heads),
          .kv_heads = narrow(config_.num_kv_heads),
          .head_dim = narrow(config_.head_dim),
          .layers = narrow(config_.num_layers),
          .layer = narrow(index),
          .inverse_frequency = inverse_frequency_.get(),
          .bias = weights_.layers[static_cast<size_t>(index)].qkv_bias.get()};
}

AttentionScratch ForwardPass::attention_scratch(const Workspace& w, int rows) const {
  return {w.attention_parts.get(), w.attention_arrived.get(),
          attention_splits(rows, narrow(config_.num_heads))};
}

int32_t* ForwardPass::ids_of(const Workspace& w, int64_t index) const {
  return w.ids.get() + index * w.rows * config_.top_k;
}

float* ForwardPass::weights_of(const Workspace& w, int64_t index) const {
  return w.weights.get() + index * w.rows * config_.top_k;
}

void ForwardPass::report(const Workspace& w, int64_t index, int rows, RouterHook* hook) const {
  if (hook == nullptr) return;
  hook->routed(index, DeviceRoutes{ids_of(w, index), weights_of(w, index), rows, config_.top_k},
               stream_);
}

void ForwardPass::report_all(const Workspace& w, int rows, RouterHook& hook) const {
  for (int64_t i = 0; i < config_.num_layers; ++i) {
    if (weights_.layers[static_cast<size_t>(i)].moe) report(w, i, rows, &hook);
  }
  hook.pass_enqueued(stream_);
}

void ForwardPass::fused_layer(const Workspace& w, int64_t index, int rows, RouterHook* hook) const {
  const LayerWeights& layer = weights_.layers[static_cast<size_t>(index)];
  const int hidden = narrow(config_.hidden_size);
  const int inner = narrow(config_.moe_intermediate_size);
  const int shared_inner = narrow(layer.shared_inner);
  const int experts = narrow(config_.num_experts);
  const int top_k = narrow(config_.top_k);
  const auto epsilon = static_cast<float>(config_.rms_norm_eps);
  const int query = narrow(config_.num_heads * config_.head_dim);
  const int qkv = query + narrow(2 * config_.num_kv_heads * config_.head_dim);
  auto* normed = static_cast<__nv_bfloat16*>(w.normed.get());
  auto* shared_act = static_cast<__nv_bfloat16*>(w.shared_act.get());
  auto* act = static_cast<__nv_bfloat16*>(w.act.get());

  dense_gemv({.weight = bf16(layer.qkv),
              .out = qkv,
              .in = hidden,
              .norm = layer.attention_norm.get(),
              .hidden = w.hidden.get(),
              .epsilon = epsilon,
              .x = nullptr,
              .y = w.qkv.get(),
              .accumulate = false},
             rows, true, stream_);
  decode_attention(type(), attention_shape(index), w.slots.get(), w.qkv.get(),
                   attention_scratch(w, rows), w.attended.get(), rows, true, stream_);
  dense_gemv({.weight = bf16(layer.attention_out),
              .out = hidden,
              .in = query,
              .norm = nullptr,
              .hidden = nullptr,
              .epsilon = 0,
              .x = bf16(w.attended),
              .y = w.hidden.get(),
              .accumulate = true},
             rows, true, stream_);
  router_and_shared_up({.hidden = w.hidden.get(),
                        .norm = layer.mlp_norm.get(),
                        .epsilon = epsilon,
                        .size = hidden,
                        .router = layer.moe ? bf16(layer.router) : nullptr,
                        .experts = experts,
                        .top_k = top_k,
                        .logit_columns = logit_columns(experts),
                        .renormalize = config_.norm_topk_prob,
                        .gate_up = bf16(layer.shared_gate_up),
                        .inner = shared_inner,
                        .normed = normed,
                        .act = shared_act,
                        .logits = w.router_logits.get(),
                        .ids = ids_of(w, index),
                        .weights = weights_of(w, index),
                        .slots = w.expert_slots(),
                        .arrived = w.router_arrived.get()},
                       rows, true, stream_);
  if (layer.moe) {
    report(w, index, rows, hook);
    expert_up({.x = normed,
               .size = hidden,
               .gate_up = bf16(layer.gate_up),
               .inner = inner,
               .slots = w.expert_slots(),
               .top_k = top_k,
               .act = act},
              rows, true, stream_);
  }
  mlp_down({.shared_down = bf16(layer.shared_down),
            .shared_act = shared_act,
            .shared_inner = shared_inner,
            .logits = layer.moe ? w.router_logits.get() : nullptr,
            .experts = experts,
            .logit_columns = logit_columns(experts),
            .down = bf16(layer.down),
            .act = act,
            .inner = inner,
            .slots = w.expert_slots(),
            .hidden = w.hidden.get(),
            .size = hidden},
           rows, true, stream_);
}

void ForwardPass::wide_layer(const Workspace& w, int64_t index, const Rows& rows,
                             RouterHook* hook) const {
  const LayerWeights& layer = weights_.layers[static_cast<size_t>(index)];
  const int hidden = narrow(config_.hidden_size);
  const auto epsilon = static_cast<float>(config_.rms_norm_eps);
  const int64_t query = config_.num_heads * config_.head_dim;
  const int64_t qkv = query + 2 * config_.num_kv_heads * config_.head_dim;
  const AttentionShape shape = attention_shape(index);
  const auto norm = [&](const DeviceArray<float>& weight) {
    rms_norm(type(), w.hidden.get(), nullptr, weight.get(), epsilon, hidden, w.normed.get(),
             rows.count, stream_);
  };
  norm(layer.attention_norm);
  multiply(w.normed.get(), layer.qkv.get(), hidden, qkv, 0.0f, w.qkv.get(), rows.count);
  if (rows.tiles == 0) {
    decode_attention(type(), shape, w.slots.get(), w.qkv.get(), attention_scratch(w, rows.count),
                     w.attended.get(), rows.count, false, stream_);
  } else {
    rotate_and_store(type(), shape, w.slots.get(), w.qkv.get(), rows.count, stream_);
    prefill_attention(type(), shape, w.slots.get(), w.qkv.get(), w.tiles.get(), rows.tiles,
                      w.attended.get(), stream_);
  }
  multiply(w.attended.get(), layer.attention_out.get(), query, hidden, 1.0f, w.hidden.get(),
           rows.count);
  norm(layer.mlp_norm);
  wide_mlp(w, index, rows.count, hook);
}

void ForwardPass::wide_mlp(const Workspace& w, int64_t index, int rows, RouterHook* hook) const {
  const LayerWeights& layer = weights_.layers[static_cast<size_t>(index)];
  const int hidden = narrow(config_.hidden_size);
  const int inner = narrow(layer.shared_inner);
  const int experts = narrow(config_.num_experts);
  const int top_k = narrow(config_.top_k);
  if (layer.moe) {
    multiply(w.normed.get(), layer.router.get(), hidden, logit_columns(experts), 0.0f,
             w.router_logits.get(), rows);
    route(w.router_logits.get(), experts, top_k, config_.norm_topk_prob, ids_of(w, index),
          weights_of(w, index), rows, stream_);
    report(w, index, rows, hook);
    const int pairs = rows * top_k;
    const ExpertWeights of_experts{layer.gate_up.get(), layer.down.get(), hidden,
                                   narrow(config_.moe_intermediate_size)};
    const int items = most_items(pairs, experts);
    group_by_expert(ids_of(w, index), pairs, experts, w.grouping(), stream_);
    experts_up(type(), of_experts, w.grouping(), items, top_k, w.normed.get(), w.act.get(),
               stream_);
    experts_down(type(), of_experts, w.grouping(), items, w.act.get(), w.routed.get(), stream_);
  }
  multiply(w.normed.get(), layer.shared_gate_up.get(), hidden, 2 * inner, 0.0f,
           w.shared_gate_up.get(), rows);
  silu_multiply(type(), w.shared_gate_up.get(), inner, w.shared_act.get(), rows, stream_);
  multiply(w.shared_act.get(), layer.shared_down.get(), inner, hidden, 0.0f, w.shared_out.get(),
           rows);
  add_mlp({w.routed.get(), weights_of(w, index), top_k, layer.moe ? w.router_logits.get() : nullptr,
           experts, logit_columns(experts), w.shared_out.get()},
          hidden, w.hidden.get(), rows, stream_);
}

void ForwardPass::decode(const Workspace& w, int rows, RouterHook* hook) const {
  const int hidden = narrow(config_.hidden_size);
  const int vocab = narrow(config_.vocab_size);
  const auto epsilon = static_cast<float>(config_.rms_norm_eps);
  embed(type(), weights_.embedding.get(), w.slots.get(), hidden, w.hidden.get(), w.best.get(), rows,
        stream_);
  for (int64_t i = 0; i < config_.num_layers; ++i) {
    if (fused(rows)) {
      fused_layer(w, i, rows, hook);
    } else {
      wide_layer(w, i, {rows, 0}, hook);
    }
  }
  if (fused(rows)) {
    dense_gemv({.weight = static_cast<const __nv_bfloat16*>(weights_.head()),
                .out = vocab,
                .in = hidden,
                .norm = weights_.norm.get(),
                .hidden = w.hidden.get(),
                .epsilon = epsilon,
                .x = nullptr,
                .y = w.logits.get(),
                .accumulate = false},
               rows, true, stream_);
  } else {
    rms_norm(type(), w.hidden.get(), nullptr, weights_.norm.get(), epsilon, hidden, w.normed.get(),
             rows, stream_);
    multiply(w.normed.get(), weights_.head(), hidden, vocab, 0.0f, w.logits.get(), rows);
  }
  find_best(w.logits.get(), vocab, w.best.get(), rows, fused(rows), stream_);
  if (hook != nullptr) hook->pass_enqueued(stream_);
}

void ForwardPass::prefill(const Workspace& w, int rows, int tiles, int logit_rows,
                          RouterHook* hook) const {
  const int hidden = narrow(config_.hidden_size);
  const int vocab = narrow(config_.vocab_size);
  embed(type(), weights_.embedding.get(), w.slots.get(), hidden, w.hidden.get(), w.best.get(), rows,
        stream_);
  for (int64_t i = 0; i < config_.num_layers; ++i) wide_layer(w, i, {rows, tiles}, hook);
  rms_norm(type(), w.hidden.get(), w.logits_of.get(), weights_.norm.get(),
           static_cast<float>(config_.rms_norm_eps), hidden, w.normed.get(), logit_rows, stream_);
  multiply(w.normed.get(), weights_.head(), hidden, vocab, 0.0f, w.logits.get(), logit_rows);
  find_best(w.logits.get(), vocab, w.best.get(), logit_rows, false, stream_);
  if (hook != nullptr) hook->pass_enqueued(stream_);
}

}  // namespace moetrace::engine::gpu
