#include "engine/attention.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace moetrace::engine {

namespace {

// Query rows per block. Bounds the score matrix of a long prompt to heads * 256 * positions floats.
constexpr int64_t kBlockRows = 256;

}  // namespace

TorchKvCache::TorchKvCache(const ModelConfig& config, int64_t capacity) {
  const auto options = at::TensorOptions().dtype(at::kFloat);
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    layers_.push_back({at::empty({config.num_kv_heads, capacity, config.head_dim}, options),
                       at::empty({config.num_kv_heads, capacity, config.head_dim}, options)});
  }
}

TorchKvCache::View TorchKvCache::append(int64_t layer, int64_t first, const at::Tensor& keys,
                                        const at::Tensor& values) {
  const View& all = layers_[static_cast<size_t>(layer)];
  const int64_t rows = keys.size(0);
  all.keys.narrow(1, first, rows).copy_(keys.transpose(0, 1));
  all.values.narrow(1, first, rows).copy_(values.transpose(0, 1));
  return {all.keys.narrow(1, 0, first + rows), all.values.narrow(1, 0, first + rows)};
}

Rotation rotation_at(const at::Tensor& positions, const ModelConfig& config) {
  // The same float32 operations, in the same order, as Qwen2MoeRotaryEmbedding: at large positions
  // the angles then agree to the last bits.
  const auto options = at::TensorOptions().dtype(at::kFloat).device(positions.device());
  const at::Tensor exponent =
      at::arange(0, config.head_dim, 2, options).div(static_cast<double>(config.head_dim));
  const at::Tensor frequency = at::pow(at::Scalar(config.rope_theta), exponent).reciprocal();
  const at::Tensor half = positions.to(at::kFloat).unsqueeze(1).mul(frequency.unsqueeze(0));
  const at::Tensor angle = at::cat({half, half}, 1).unsqueeze(1);
  return {angle.cos(), angle.sin()};
}

at::Tensor rotate(const at::Tensor& x, const Rotation& rotation) {
  const int64_t half = x.size(2) / 2;
  const at::Tensor turned = at::cat({x.narrow(2, half, half).neg(), x.narrow(2, 0, half)}, 2);
  return x.mul(rotation.cos).add_(turned.mul_(rotation.sin));
}

at::Tensor attend(const at::Tensor& queries, const TorchKvCache::View& past, int64_t first) {
  const int64_t rows = queries.size(0);
  const int64_t heads = queries.size(1);
  const int64_t dim = queries.size(2);
  const int64_t kv_heads = past.keys.size(0);
  const int64_t group = heads / kv_heads;  // query heads that share a key/value head
  const double scale = 1.0 / std::sqrt(static_cast<double>(dim));
  std::vector<at::Tensor> blocks;
  for (int64_t start = 0; start < rows; start += kBlockRows) {
    const int64_t block = std::min(kBlockRows, rows - start);
    const int64_t seen = first + start + block;
    const at::Tensor query = queries.narrow(0, start, block)
                                 .reshape({block, kv_heads, group, dim})
                                 .permute({1, 2, 0, 3})
                                 .reshape({kv_heads, group * block, dim});
    at::Tensor score = at::bmm(query, past.keys.narrow(1, 0, seen).transpose(1, 2)).mul_(scale);
    if (block > 1) {
      const at::Tensor later =
          at::ones({block, seen}, score.options().dtype(at::kBool)).triu_(first + start + 1);
      score.view({kv_heads, group, block, seen})
          .masked_fill_(later, -std::numeric_limits<float>::infinity());
    }
    const at::Tensor mixed = at::bmm(at::softmax(score, -1), past.values.narrow(1, 0, seen));
    blocks.push_back(mixed.view({kv_heads, group, block, dim})
                         .permute({2, 0, 1, 3})
                         .reshape({block, heads * dim}));
  }
  return blocks.size() == 1 ? blocks.front() : at::cat(blocks, 0);
}

}  // namespace moetrace::engine
