// What the fused kernels with x in shared memory have in common: how a block is set up, and how x
// gets there.
#pragma once

#include <algorithm>

#include "engine/cuda/chained_launch.cuh"
#include "engine/cuda/fused_decode.hpp"
#include "engine/cuda/weight_stream.cuh"

namespace moetrace::engine::gpu {

static_assert(kFusedRows == kStreamRows);

constexpr int kDepth = 4;        // loads of two rows in flight a lane: 32 registers
constexpr int kBlocksPerSm = 3;  // hence at most 80 registers; together 96 KB in flight an SM
constexpr size_t kMostShared = 72 * 1024;  // three such blocks fit an SM of a GPU with 228 KB

extern __shared__ uint4 shared_memory[];

// Shared memory in the order: x, sums, probabilities, used.
__device__ inline bfloat16* shared_x() {
  return reinterpret_cast<bfloat16*>(shared_memory);
}
__device__ inline TileSums<kStreamWarps>* shared_sums(int rows, int stride) {
  return reinterpret_cast<TileSums<kStreamWarps>*>(shared_x() + rows * stride);
}

inline size_t shared_bytes(int rows, int columns, int experts) {
  return static_cast<size_t>(rows) * stream_stride(columns) * sizeof(bfloat16) +
         sizeof(TileSums<kStreamWarps>) +
         static_cast<size_t>(rows + 1) * static_cast<size_t>(experts) * sizeof(float);
}

inline int persistent_grid(int tiles) {
  static const int blocks = [] {
    int device = 0;
    int count = 0;
    check(cudaGetDevice(&device), "device");
    check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device), "device");
    return count * kBlocksPerSm;
  }();
  return std::min(tiles, blocks);
}

// One block a tile, up to what the GPU holds at once; `kernel` takes (arguments, rows).
template <class Arguments>
void launch_fused(void (*kernel)(Arguments, int), bool chained, int tiles, size_t bytes,
                  cudaStream_t stream, const Arguments& arguments, int rows) {
  if (bytes > 48 * 1024) {  // what a kernel may have without asking
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(kMostShared)),
          "shared memory");
  }
  launch(kernel, chained, persistent_grid(tiles), kStreamThreads, bytes, stream, arguments, rows);
}

// Before the wait: what the block will read as soon as it is over.
__device__ inline void prefetch(const float* from, int count) {
  for (int i = static_cast<int>(threadIdx.x) * 32; from != nullptr && i < count;
       i += kStreamThreads * 32)
    asm volatile("prefetch.global.L2 [%0];" ::"l"(from + i));
}

// x = rms_norm(hidden) * norm in bfloat16, by the whole block; `sums` is free until the end.
__device__ inline void stage_normed(bfloat16* x, int stride, const float* hidden, const float* norm,
                                    float epsilon, int columns, int rows,
                                    TileSums<kStreamWarps>* sums) {
  const int thread = static_cast<int>(threadIdx.x);
  float* of_warp = &sums->part[0][0][0];  // [rows, warps]
  for (int row = 0; row < rows; ++row) {
    float square = 0;
    for (int i = thread * 4; i < columns; i += kStreamThreads * 4) {
      const float4 h = *reinterpret_cast<const float4*>(hidden + row * columns + i);
      square += h.x * h.x + h.y * h.y + h.z * h.z + h.w * h.w;
    }
    square = warp_sum(square);
    if (thread % 32 == 0) of_warp[row * kStreamWarps + thread / 32] = square;
  }
  __syncthreads();
  for (int row = 0; row < rows; ++row) {
    float square = 0;
#pragma unroll
    for (int warp = 0; warp < kStreamWarps; ++warp) square += of_warp[row * kStreamWarps + warp];
    const float scale = rsqrtf(square / static_cast<float>(columns) + epsilon);
    for (int i = thread * 4; i < columns; i += kStreamThreads * 4) {
      const float4 h = *reinterpret_cast<const float4*>(hidden + row * columns + i);
      const float4 w = *reinterpret_cast<const float4*>(norm + i);
      __nv_bfloat162 pair[2] = {__floats2bfloat162_rn(h.x * scale * w.x, h.y * scale * w.y),
                                __floats2bfloat162_rn(h.z * scale * w.z, h.w * scale * w.w)};
      *reinterpret_cast<uint2*>(x + row * stride + i) = *reinterpret_cast<uint2*>(pair);
    }
  }
  __syncthreads();
}

__device__ inline void stage(bfloat16* x, int stride, const bfloat16* from, int columns, int rows) {
  for (int row = 0; row < rows; ++row) {
    for (int i = static_cast<int>(threadIdx.x) * 8; i < columns; i += kStreamThreads * 8) {
      *reinterpret_cast<uint4*>(x + row * stride + i) =
          *reinterpret_cast<const uint4*>(from + static_cast<size_t>(row) * columns + i);
    }
  }
  __syncthreads();
}

}  // namespace moetrace::engine::gpu
