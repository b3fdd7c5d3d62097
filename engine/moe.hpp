// The feed-forward part of a layer: a gated MLP, or a mixture of experts with its router.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <vector>

#include "engine/config.hpp"
#include "engine/model.hpp"
#include "engine/weights.hpp"

namespace moetrace::engine {

// down(silu(gate(x)) * up(x))
struct Mlp {
  Weight gate;  // [intermediate, hidden]
  Weight up;    // [intermediate, hidden]
  Weight down;  // [hidden, intermediate]

  static Mlp load(WeightLoader& loader, const std::string& prefix, int64_t hidden,
                  int64_t intermediate);
  at::Tensor forward(const at::Tensor& x) const;
};

struct Routing {
  at::Tensor weights;  // float32 [rows, top_k]
  at::Tensor ids;      // int64 [rows, top_k], by descending weight
};

// modeling_qwen2_moe.py, Qwen2MoeSparseMoeBlock
class MoeBlock {
 public:
  static MoeBlock load(WeightLoader& loader, const std::string& prefix, const ModelConfig& config);

  // x [rows, hidden]. Calls `hook` (may be nullptr) with the routing before the experts run;
  // `layer` is the layer's index in the model.
  at::Tensor forward(const at::Tensor& x, int64_t layer, RouterHook* hook) const;

 private:
  Routing route(const at::Tensor& x) const;
  at::Tensor run_experts(const at::Tensor& x, const Routing& routing) const;

  Weight router_;  // [experts, hidden]
  std::vector<Mlp> experts_;
  Mlp shared_;
  Weight shared_gate_;  // [1, hidden]
  int64_t top_k_ = 0;
  bool norm_topk_prob_ = false;
};

}  // namespace moetrace::engine
