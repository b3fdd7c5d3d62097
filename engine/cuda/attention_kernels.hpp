// Causal attention over the caches of many sequences, with rotary positions and grouped key/value
// heads.
//
// qkv: float [rows, (heads + 2 * kv_heads) * head_dim], the projections without their bias:
// queries, keys, values. Rotation is pairwise, first half with second half, as Hugging Face's
// rotate_half. out: [rows, heads * head_dim] of the cache's type. `type` is kFloat32 or kBfloat16.
// Throw CudaError if a launch fails.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "engine/cuda/number_type.hpp"
#include "engine/cuda/row_slot.hpp"

namespace moetrace::engine::gpu {

constexpr int kMostHeadDim = 256;  // and a power of two, at least 8
constexpr int kPrefillRows = 16;   // of a RowTile, at most

struct AttentionShape {
  int heads, kv_heads, head_dim;
  int layers, layer;
  const float* inverse_frequency;  // [head_dim / 2]
  const float* bias;               // of the columns of qkv; nullptr: none
};

// Where parts of one row's attention meet. Device memory.
struct AttentionScratch {
  float* part;        // [rows, heads, splits, head_dim + 2]
  uint32_t* arrived;  // [rows, heads]: all 0 before and after
  int splits;         // blocks that share the positions of a row and head
};
int attention_splits(int rows, int heads);

// One row a sequence: rotates, stores the new key and value in the cache, attends. Part of a chain
// (chained_launch.cuh).
void decode_attention(NumberType type, const AttentionShape& shape, const RowSlot* slots,
                      const float* qkv, const AttentionScratch& scratch, void* out, int rows,
                      bool chained, cudaStream_t stream);

// Adds the bias and rotates the queries of qkv where they are, and stores keys and values in the
// caches.
void rotate_and_store(NumberType type, const AttentionShape& shape, const RowSlot* slots,
                      float* qkv, int rows, cudaStream_t stream);
// Behind rotate_and_store(): each row attends to the positions up to its own.
void prefill_attention(NumberType type, const AttentionShape& shape, const RowSlot* slots,
                       const float* qkv, const RowTile* tiles, int tile_count, void* out,
                       cudaStream_t stream);

}  // namespace moetrace::engine::gpu
