// Causal attention with rotary positions and grouped key/value heads, one sequence at a time.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "engine/config.hpp"
#include "engine/model.hpp"

namespace moetrace::engine {

// Keys and values of one sequence, all layers. Allocated once, for `capacity` positions.
class TorchKvCache final : public KvCache {
 public:
  TorchKvCache(const ModelConfig& config, int64_t capacity);

  struct View {
    at::Tensor keys;    // [kv heads, positions so far, head_dim]
    at::Tensor values;  // the same
  };
  // Stores keys and values [rows, kv heads, head_dim] of positions [first, first + rows). Returns
  // all positions up to first + rows.
  View append(int64_t layer, int64_t first, const at::Tensor& keys, const at::Tensor& values);

 private:
  std::vector<View> layers_;
};

// Cosines and sines of the rows' rotary angles, each [rows, 1, head_dim].
struct Rotation {
  at::Tensor cos;
  at::Tensor sin;
};
Rotation rotation_at(const at::Tensor& positions, const ModelConfig& config);
// Rotates pairs of elements of x [rows, heads, head_dim]: element i of the first half with element
// i of the second half, as Hugging Face's rotate_half.
at::Tensor rotate(const at::Tensor& x, const Rotation& rotation);

// Causal attention of queries [rows, heads, head_dim] at positions [first, first + rows) of the
// sequence. Returns [rows, heads * head_dim].
at::Tensor attend(const at::Tensor& queries, const TorchKvCache::View& past, int64_t first);

}  // namespace moetrace::engine
