// Kernels over the rows of a pass: embedding, norms, routing, sums, and the most probable token.
//
// Void pointers are to numbers of `type`; all other numbers are float. Matrices are contiguous,
// widths are multiples of 8. The functions throw CudaError if a launch fails.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "engine/cuda/number_type.hpp"
#include "engine/cuda/row_slot.hpp"

namespace moetrace::engine::gpu {

// hidden [rows, size] = the embedding of each row's token; best [rows] = 0.
void embed(NumberType type, const void* embedding, const RowSlot* slots, int size, float* hidden,
           unsigned long long* best, int rows, cudaStream_t stream);

// out [rows, size] = rms_norm(hidden [row_of[row]]) * weight [size]. row_of nullptr: the same row.
void rms_norm(NumberType type, const float* hidden, const int32_t* row_of, const float* weight,
              float epsilon, int size, void* out, int rows, cudaStream_t stream);

// Columns of a router's logits: the experts, the shared expert's gate, and unused ones up to a
// multiple of 8, with which cuBLAS is fast.
constexpr int logit_columns(int64_t experts) {
  return static_cast<int>((experts + 1 + 7) / 8 * 8);
}

// Softmax over the first `experts` columns of logits [rows, logit_columns(experts)], then the top_k
// largest (at most 32), in the order of router.cuh.
void route(const float* logits, int experts, int top_k, bool renormalize, int32_t* ids,
           float* weights, int rows, cudaStream_t stream);

// out [rows, inner] = silu(first half) * second half of gate_up [rows, 2 * inner].
void silu_multiply(NumberType type, const float* gate_up, int inner, void* out, int rows,
                   cudaStream_t stream);

// hidden [rows, size] += sum of weights [rows, top_k] times routed [rows, top_k, size], plus
// sigmoid(column `experts` of logits [rows, logit_columns]) times shared [rows, size]. logits
// nullptr: hidden += shared.
struct MlpSum {
  const float* routed;
  const float* weights;
  int top_k;
  const float* logits;
  int experts, logit_columns;
  const float* shared;
};
void add_mlp(const MlpSum& sum, int size, float* hidden, int rows, cudaStream_t stream);

// best [rows], which must be 0 before = the index of the largest of logits [rows, size]; of equal
// ones the smaller index. Read it with best_index().
void find_best(const float* logits, int size, unsigned long long* best, int rows, bool chained,
               cudaStream_t stream);
inline int64_t best_index(unsigned long long best) {
  return static_cast<int64_t>(~static_cast<uint32_t>(best));
}

// The (row, choice) pairs of a pass, sorted by expert and cut into items of one expert each. Device
// memory.
constexpr int kItemPairs = 64;
struct WorkItem {
  int32_t expert;
  int32_t first;  // index in `order` of its first pair
  int32_t pairs;  // 1 to kItemPairs
};
struct Grouping {
  int32_t* order;       // [pairs]: row * top_k + choice
  WorkItem* items;      // [most_items()]
  int32_t* item_count;  // [1]
};
// Upper bound of *item_count.
int most_items(int pairs, int experts);
// ids: [pairs]. `experts` is at most 4096.
void group_by_expert(const int32_t* ids, int pairs, int experts, const Grouping& grouping,
                     cudaStream_t stream);

// Random numbers for tests and benchmarks, from a counter: the same for the same seed, and nearly
// normal with this standard deviation.
void fill_random(NumberType type, void* to, int64_t count, uint64_t seed, float deviation,
                 cudaStream_t stream);
void fill(float* to, int64_t count, float value, cudaStream_t stream);

}  // namespace moetrace::engine::gpu
