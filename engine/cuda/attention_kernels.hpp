// Causal attention over the caches of many sequences, with rotary positions and grouped key/value
// heads.
//
// qkv: float [rows, (heads + 2 * kv_heads) * head_dim], the projections without their bias:
// queries, keys, values. The rotation takes element i of a head's first half with element i of its
// second half, as Hugging Face's rotate_half. out: [rows, heads * head_dim], of `type`, as the
// cache. All functions throw CudaError if a launch fails.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "engine/cuda/number_type.hpp"
#include "engine/cuda/row_slot.hpp"

namespace moetrace::engine::gpu {

constexpr int kMostHeadDim = 256;  // head_dim is a power of two from 8 to this
constexpr int kPrefillRows = 16;   // maximum rows of a RowTile

struct AttentionShape {
  int heads, kv_heads, head_dim;
  int layers, layer;
  const float* inverse_frequency;  // [head_dim / 2]
  const float* bias;               // of the columns of qkv, or nullptr
};

// Where the blocks that share a row and a head exchange their partial results. Device memory.
struct AttentionScratch {
  float* part;        // [rows, heads, splits, head_dim + 2]
  uint32_t* arrived;  // [rows, heads]: blocks that are done; all 0 before and after a launch
  int splits;         // maximum blocks that share the positions of a row and head
};
int attention_splits(int rows, int heads);

// Decode, one row a sequence: rotates the row, stores its key and value in the cache, and attends.
// Part of a chain (chained_launch.cuh).
void decode_attention(NumberType type, const AttentionShape& shape, const RowSlot* slots,
                      const float* qkv, const AttentionScratch& scratch, void* out, int rows,
                      bool chained, cudaStream_t stream);

// Prefill, first half: adds the bias, rotates the queries of qkv in place, and stores keys and
// values in the caches.
void rotate_and_store(NumberType type, const AttentionShape& shape, const RowSlot* slots,
                      float* qkv, int rows, cudaStream_t stream);
// Prefill, second half, after rotate_and_store(): each row attends to the positions up to its own.
void prefill_attention(NumberType type, const AttentionShape& shape, const RowSlot* slots,
                       const float* qkv, const RowTile* tiles, int tile_count, void* out,
                       cudaStream_t stream);

}  // namespace moetrace::engine::gpu
