// The routed experts of many rows. Each work item (one expert, up to 64 of its pairs) is a matrix
// product; one launch computes all items. bfloat16 uses tensor cores, float32 multiply-adds.
//
// Pointers are to device memory, void pointers to numbers of `type`. Widths are multiples of 8. The
// functions throw CudaError if a launch fails.
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

// act [pairs, inner] = silu(gate) * up of x [rows, size]. act is in the grouping's order.
void experts_up(NumberType type, const ExpertWeights& weights, const Grouping& grouping,
                int most_items, int top_k, const void* x, void* act, cudaStream_t stream);

// routed, float [pairs, size] = act times down. Row row * top_k + choice is that pair's.
void experts_down(NumberType type, const ExpertWeights& weights, const Grouping& grouping,
                  int most_items, const void* act, float* routed, cudaStream_t stream);

}  // namespace moetrace::engine::gpu
