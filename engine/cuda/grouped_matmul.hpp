// The routed experts of many rows: for each work item (one expert, up to 64 of its pairs) a matrix
// product, all items in one launch. bfloat16 on tensor cores, float32 by multiply-adds.
//
// Device memory of `type` where not said otherwise; widths are multiples of 8. Throw CudaError if a
// launch fails.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "engine/cuda/number_type.hpp"
#include "engine/cuda/row_kernels.hpp"

namespace moetrace::engine::gpu {

struct ExpertWeights {
  const void* gate_up;  // [experts, 2 * inner, size]
  const void* down;     // [experts, size, inner]
  int size;
  int inner;
};

// act [pairs, inner], in the order of the grouping: silu(gate) * up of x [rows, size].
void experts_up(NumberType type, const ExpertWeights& weights, const Grouping& grouping,
                int most_items, int top_k, const void* x, void* act, cudaStream_t stream);

// routed, float [pairs, size], as the pairs are numbered: act times down.
void experts_down(NumberType type, const ExpertWeights& weights, const Grouping& grouping,
                  int most_items, const void* act, float* routed, cudaStream_t stream);

}  // namespace moetrace::engine::gpu
