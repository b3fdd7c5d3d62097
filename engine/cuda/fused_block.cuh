// Shared by the fused kernels that keep x in shared memory: the setup of a block, and the staging
// of x.
#pragma once

#include <algorithm>

#include "engine/cuda/chained_launch.cuh"
#include "engine/cuda/fused_decode.hpp"
#include "engine/cuda/weight_stream.cuh"

namespace moetrace::engine::gpu {

static_assert(kFusedRows == kStreamRows);

// Loads in flight a lane, of two weight rows each: 32 registers.
constexpr int kDepth = 4;
// Target occupancy: this bounds a kernel to 80 registers a thread, and keeps 96 KB in flight an SM.
constexpr int kBlocksPerSm = 3;
// Maximum shared memory of a block: kBlocksPerSm of them fit an SM with 228 KB.
constexpr size_t kMostShared = 72 * 1024;

extern __shared__ uint4 shared_memory[];

// Order in shared memory: x, sums, probabilities, used.
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

// Launches one block a tile, but at most as many as the GPU holds at once. `kernel` takes
// (arguments, rows).
template <class Arguments>
void launch_fused(void (*kernel)(Arguments, int), bool chained, int tiles, size_t bytes,
                  cudaStream_t stream, const Arguments& arguments, int rows) {
  if (bytes > 48 * 1024) {  // the default limit of a kernel
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(kMostShared)),
          "shared memory");
  }
  launch(kernel, chained, persistent_grid(tiles), kStreamThreads, bytes, stream, arguments, rows);
}

// Call before the wait: brings into L2 what the block reads right after the wait.
__device__ inline void prefetch(const float* from, int count) {
  for (int i = static_cast<int>(threadIdx.x) * 32; from != nullptr && i < count;
       i += kStreamThreads * 32)
    asm volatile("prefetch.global.L2 [%0];" ::"l"(from + i));
}

// x = rms_norm(hidden) * norm in bfloat16. Call by the whole block. Uses `sums` as scratch memory.
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

// x = from. Call by the whole block.
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
