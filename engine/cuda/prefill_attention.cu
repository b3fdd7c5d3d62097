#include "engine/cuda/chained_launch.cuh"
#include "engine/cuda/for_type.cuh"
#include "engine/cuda/rotary.cuh"

namespace moetrace::engine::gpu {

namespace {

constexpr int kThreads = 128;
constexpr int kKeys = 32;  // positions in shared memory at a time

// A block takes a row. A thread takes both elements of a pair, so that it can rotate the queries in
// place.
template <class T>
__global__ void rotate_and_store_kernel(AttentionShape shape, const RowSlot* slots, float* qkv) {
  __shared__ Turns turns;
  const int row = static_cast<int>(blockIdx.x);
  const RowSlot slot = slots[row];
  const int dim = shape.head_dim;
  const int half = dim / 2;
  turns.set(half, slot.position, shape.inverse_frequency);
  __syncthreads();
  float* of_row = qkv + static_cast<size_t>(row) * (shape.heads + 2 * shape.kv_heads) * dim;
  const int turned = shape.heads + shape.kv_heads;
  for (int i = static_cast<int>(threadIdx.x); i < turned * half;
       i += static_cast<int>(blockDim.x)) {
    const int head = i / half;
    float* x = of_row + head * dim;
    const float* bias = shape.bias != nullptr ? shape.bias + head * dim : nullptr;
    const float2 pair = turns.apply(x, bias, i % half, half);
    if (head < shape.heads) {
      x[i % half] = pair.x;
      x[i % half + half] = pair.y;
    } else {
      T* key = cache_of<T>(slot, shape, head - shape.heads).keys +
               static_cast<size_t>(slot.position) * dim;
      key[i % half] = from_float<T>(pair.x);
      key[i % half + half] = from_float<T>(pair.y);
    }
  }
  for (int i = static_cast<int>(threadIdx.x); i < shape.kv_heads * dim;
       i += static_cast<int>(blockDim.x)) {
    T* value = cache_of<T>(slot, shape, i / dim).values + static_cast<size_t>(slot.position) * dim;
    value[i % dim] = from_float<T>(with_bias(of_row, shape.bias, turned * dim + i));
  }
}

constexpr int kRowsPerWarp = kPrefillRows / (kThreads / 32);

size_t prefill_shared_bytes(int dim) {
  return static_cast<size_t>(kPrefillRows * dim + kKeys * (dim + 1) + kKeys * dim) * sizeof(float);
}

// Grid: (tiles, heads). A block takes up to 16 rows of one sequence, 4 a warp. A lane computes the
// score of one key, and sums some of the head's elements.
template <class T>
__global__ __launch_bounds__(kThreads) void prefill_attention_kernel(AttentionShape shape,
                                                                     const RowSlot* slots,
                                                                     const float* qkv,
                                                                     const RowTile* tiles, T* out) {
  extern __shared__ float prefill_shared[];
  const int dim = shape.head_dim;
  float* query = prefill_shared;             // [16, dim]
  float* keys = query + kPrefillRows * dim;  // [32, dim + 1]
  float* values = keys + kKeys * (dim + 1);  // [32, dim]
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % 32;
  const int first_of_warp = thread / 32 * kRowsPerWarp;
  const RowTile tile = tiles[blockIdx.x];
  const int head = static_cast<int>(blockIdx.y);
  const RowSlot slot = slots[tile.first_row];
  const CacheOf<T> cache = cache_of<T>(slot, shape, head / (shape.heads / shape.kv_heads));
  const float scale = rsqrtf(static_cast<float>(dim));
  const size_t row_size = static_cast<size_t>(shape.heads + 2 * shape.kv_heads) * dim;
  for (int i = thread; i < kPrefillRows * dim; i += kThreads) {
    const int row = i / dim;
    query[i] = row < tile.rows
                   ? qkv[(tile.first_row + row) * row_size + head * dim + i % dim] * scale
                   : 0.0f;
  }
  float largest[kRowsPerWarp];
  float sums[kRowsPerWarp] = {};
  float mixed[kRowsPerWarp][kMostHeadDim / 32] = {};
#pragma unroll
  for (int r = 0; r < kRowsPerWarp; ++r) largest[r] = -INFINITY;

  const int length = slot.position + tile.rows;  // positions that the tile's last row sees
  for (int base = 0; base < length; base += kKeys) {
    __syncthreads();
    for (int i = thread; i < kKeys * dim; i += kThreads) {
      const int key = i / dim;
      const bool there = base + key < length;
      const size_t at = static_cast<size_t>(base) * dim + i;
      keys[key * (dim + 1) + i % dim] = there ? to_float(cache.keys[at]) : 0.0f;
      values[i] = there ? to_float(cache.values[at]) : 0.0f;
    }
    __syncthreads();
    float scores[kRowsPerWarp] = {};
    for (int d = 0; d < dim; ++d) {
      const float key = keys[lane * (dim + 1) + d];
#pragma unroll
      for (int r = 0; r < kRowsPerWarp; ++r)
        scores[r] += query[(first_of_warp + r) * dim + d] * key;
    }
#pragma unroll
    for (int r = 0; r < kRowsPerWarp; ++r) {
      const bool seen = base + lane <= slot.position + first_of_warp + r;
      const float score = seen ? scores[r] : -INFINITY;
      const float now = fmaxf(largest[r], warp_max(score));  // finite: every row sees key 0
      const float power = expf(score - now);
      const float before = expf(largest[r] - now);
      largest[r] = now;
      sums[r] = sums[r] * before + warp_sum(power);
#pragma unroll
      for (int i = 0; i < kMostHeadDim / 32; ++i) mixed[r][i] *= before;
      for (int key = 0; key < kKeys; ++key) {
        const float of_key = __shfl_sync(0xffffffffu, power, key);
#pragma unroll
        for (int i = 0; i < kMostHeadDim / 32; ++i) {
          if (lane + 32 * i < dim) mixed[r][i] += of_key * values[key * dim + lane + 32 * i];
        }
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kRowsPerWarp; ++r) {
    if (first_of_warp + r >= tile.rows) continue;
    T* to =
        out + (static_cast<size_t>(tile.first_row + first_of_warp + r) * shape.heads + head) * dim;
#pragma unroll
    for (int i = 0; i < kMostHeadDim / 32; ++i) {
      if (lane + 32 * i < dim) to[lane + 32 * i] = from_float<T>(mixed[r][i] / sums[r]);
    }
  }
}

}  // namespace

void rotate_and_store(NumberType type, const AttentionShape& shape, const RowSlot* slots,
                      float* qkv, int rows, cudaStream_t stream) {
  for_type(type, [&](auto number) {
    using T = decltype(number);
    launch(rotate_and_store_kernel<T>, false, rows, 256, 0, stream, shape, slots, qkv);
  });
}

void prefill_attention(NumberType type, const AttentionShape& shape, const RowSlot* slots,
                       const float* qkv, const RowTile* tiles, int tile_count, void* out,
                       cudaStream_t stream) {
  for_type(type, [&](auto number) {
    using T = decltype(number);
    const size_t bytes = prefill_shared_bytes(shape.head_dim);
    check(
        cudaFuncSetAttribute(prefill_attention_kernel<T>,
                             cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
        "shared memory");
    launch(prefill_attention_kernel<T>, false, dim3(tile_count, shape.heads), kThreads, bytes,
           stream, shape, slots, qkv, tiles, static_cast<T*>(out));
  });
}

}  // namespace moetrace::engine::gpu
