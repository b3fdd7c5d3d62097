// A block streams 16 rows of a weight matrix: 8 warps share the columns, each warp keeps a ring of
// loads in flight, and tensor cores multiply the rows with up to 8 rows of x.
//
// A lane loads 8 neighbouring columns of the rows g and g + 8 (g = lane / 4, t = lane % 4). So a
// load has 16 bytes, and a warp loads 64 bytes of a row at a time. The mma fragments have another
// column order. The result is the same, as x is read in the lanes' order too and the product sums
// over the columns.
#pragma once

#include "engine/cuda/tensor_core.cuh"

namespace moetrace::engine::gpu {

constexpr int kStreamWarps = 8;
constexpr int kStreamThreads = kStreamWarps * 32;
constexpr int kTileRows = 16;
constexpr int kChunk = 32;      // columns that a warp takes at a time
constexpr int kStreamRows = 8;  // maximum rows of x: the columns of an mma

struct StreamLane {
  int warp = static_cast<int>(threadIdx.x) / 32;
  int g = static_cast<int>(threadIdx.x) % 32 / 4;
  int t = static_cast<int>(threadIdx.x) % 4;
};

// c += eight columns of two weight rows times the same columns of a row of x.
__device__ inline void multiply_chunk(float (&c)[4], const uint4& upper, const uint4& lower,
                                      const uint4& x) {
  multiply_add(c, upper.x, lower.x, upper.y, lower.y, x.x, x.y);
  multiply_add(c, upper.z, lower.z, upper.w, lower.w, x.z, x.w);
}

template <int kDepth>
struct WeightRing {
  static constexpr int kLap = kDepth * kStreamWarps * kChunk;  // columns of a lap of the ring
  uint4 upper[kDepth];
  uint4 lower[kDepth];

  // Column of load i of the first lap.
  __device__ static int column(const StreamLane& lane, int i) {
    return (i * kStreamWarps + lane.warp) * kChunk + lane.t * 8;
  }
  // Starts the loads of the first lap. The rows have `k` columns.
  __device__ void fill(const StreamLane& lane, const bfloat16* upper_row, const bfloat16* lower_row,
                       int k) {
#pragma unroll
    for (int i = 0; i < kDepth; ++i) {
      const int at = column(lane, i);
      upper[i] = load_weights(upper_row + at, at < k);
      lower[i] = load_weights(lower_row + at, at < k);
    }
  }
  // Adds this warp's part of the rows times x to c. x: in shared memory, `rows` rows at `stride`.
  __device__ void consume(const StreamLane& lane, const bfloat16* upper_row,
                          const bfloat16* lower_row, int k, const bfloat16* x, int stride, int rows,
                          float (&c)[4]) {
    for (int base = 0; base < k; base += kLap) {
#pragma unroll
      for (int i = 0; i < kDepth; ++i) {
        const int at = base + column(lane, i);
        uint4 of_x = make_uint4(0, 0, 0, 0);
        if (at < k && lane.g < rows)
          of_x = *reinterpret_cast<const uint4*>(x + lane.g * stride + at);
        multiply_chunk(c, upper[i], lower[i], of_x);
        if (base + kLap < k) {
          const int next = at + kLap;
          upper[i] = load_weights(upper_row + next, next < k);
          lower[i] = load_weights(lower_row + next, next < k);
        }
      }
    }
  }
};

// The warps' partial sums of a tile, in shared memory.
template <int kWarps>
struct TileSums {
  float part[kWarps][kTileRows][kStreamRows];

  __device__ void put(const StreamLane& lane, const float (&c)[4]) {
    part[lane.warp][lane.g][2 * lane.t] = c[0];
    part[lane.warp][lane.g][2 * lane.t + 1] = c[1];
    part[lane.warp][lane.g + 8][2 * lane.t] = c[2];
    part[lane.warp][lane.g + 8][2 * lane.t + 1] = c[3];
  }
  __device__ float sum(int tile_row, int x_row) const {
    float total = 0;
#pragma unroll
    for (int warp = 0; warp < kWarps; ++warp) total += part[warp][tile_row][x_row];
    return total;
  }
};

// Distance of the rows of x in shared memory: the 8 rows of a load lie in different banks.
__host__ __device__ constexpr int stream_stride(int columns) {
  return (columns + 63) / 64 * 64 + 32;
}

}  // namespace moetrace::engine::gpu
