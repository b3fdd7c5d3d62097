// Causal attention with rotary positions and grouped key/value heads, one sequence at a time.
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "engine/config.hpp"
#include "engine/model.hpp"

namespace moetrace::engine {

// Keys and values of one sequence, all layers; room is taken once.
class TorchKvCache final : public KvCache {
 public:
  TorchKvCache(const ModelConfig& config, int64_t capacity);

  struct View {
    at::Tensor keys;    // [kv heads, positions so far, head_dim]
    at::Tensor values;  // the same
  };
  // Stores keys and values [rows, kv heads, head_dim] of positions [first, first + rows); the view
  // holds all up to them.
  View append(int64_t layer, int64_t first, const at::Tensor& keys, const at::Tensor& values);

 private:
  std::vector<View> layers_;
};

// cos and sin of the angles at some positions: each [rows, 1, head_dim].
struct Rotation {
  at::Tensor cos;
  at::Tensor sin;
};
Rotation rotation_at(const at::Tensor& positions, const ModelConfig& config);
// x [rows, heads, head_dim], turned pairwise (first half with second half, as Hugging Face's
// rotate_half).
at::Tensor rotate(const at::Tensor& x, const Rotation& rotation);

// queries [rows, heads, head_dim] at positions [first, first + rows) of the sequence; returns
// [rows, heads * head_dim].
at::Tensor attend(const at::Tensor& queries, const TorchKvCache::View& past, int64_t first);

}  // namespace moetrace::engine
