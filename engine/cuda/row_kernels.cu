#include <algorithm>

#include "engine/cuda/chained_launch.cuh"
#include "engine/cuda/for_type.cuh"
#include "engine/cuda/router.cuh"
#include "engine/cuda/row_kernels.hpp"

namespace moetrace::engine::gpu {

namespace {

constexpr int kThreads = 256;

__device__ int thread_of_grid() {
  return static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
}

int blocks_for(int64_t items) {
  return static_cast<int>((items + kThreads - 1) / kThreads);
}

template <class T>
__global__ void embed_kernel(const T* embedding, const RowSlot* slots, int size, float* hidden,
                             unsigned long long* best) {
  const int row = static_cast<int>(blockIdx.x);
  const T* from = embedding + static_cast<size_t>(slots[row].token) * size;
  for (int i = static_cast<int>(threadIdx.x); i < size; i += kThreads)
    hidden[static_cast<size_t>(row) * size + i] = to_float(from[i]);
  if (threadIdx.x == 0) best[row] = 0;
}

template <class T>
__global__ void rms_norm_kernel(const float* hidden, const int32_t* row_of, const float* weight,
                                float epsilon, int size, T* out) {
  __shared__ float of_warp[kThreads / 32];
  const int row = static_cast<int>(blockIdx.x);
  const float* x = hidden + static_cast<size_t>(row_of != nullptr ? row_of[row] : row) * size;
  float square = 0;
  for (int i = static_cast<int>(threadIdx.x); i < size; i += kThreads) square += x[i] * x[i];
  square = warp_sum(square);
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = square;
  __syncthreads();
  square = 0;
  for (const float part : of_warp) square += part;
  const float scale = rsqrtf(square / static_cast<float>(size) + epsilon);
  for (int i = static_cast<int>(threadIdx.x); i < size; i += kThreads)
    out[static_cast<size_t>(row) * size + i] = from_float<T>(x[i] * scale * weight[i]);
}

constexpr int kRouteWarps = 4;

__global__ void route_kernel(const float* logits, int experts, int columns, int top_k,
                             bool renormalize, int32_t* ids, float* weights, int rows) {
  extern __shared__ float probabilities[];
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int row = static_cast<int>(blockIdx.x) * kRouteWarps + warp;
  if (row >= rows) return;
  float* mine = probabilities + warp * experts;
  for (int e = static_cast<int>(threadIdx.x) % 32; e < experts; e += 32)
    mine[e] = logits[static_cast<size_t>(row) * columns + e];
  __syncwarp();
  route_row(mine, experts, top_k, renormalize, ids + static_cast<size_t>(row) * top_k,
            weights + static_cast<size_t>(row) * top_k);
}

template <class T>
__global__ void silu_multiply_kernel(const float* gate_up, int inner, T* out, int64_t count) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const float* row = gate_up + i / inner * 2 * inner;
  out[i] = from_float<T>(silu(row[i % inner]) * row[inner + i % inner]);
}

__global__ void add_mlp_kernel(MlpSum a, int size, float* hidden) {
  const int row = static_cast<int>(blockIdx.y);
  const int i = thread_of_grid() * 4;
  if (i >= size) return;
  float4* to = reinterpret_cast<float4*>(hidden + static_cast<size_t>(row) * size + i);
  float4 sum = *to;
  const auto add = [&](float weight, const float* from) {
    const float4 x = *reinterpret_cast<const float4*>(from);
    sum.x += weight * x.x, sum.y += weight * x.y, sum.z += weight * x.z, sum.w += weight * x.w;
  };
  float share = 1;
  if (a.logits != nullptr) {
    for (int k = 0; k < a.top_k; ++k) {
      const size_t pair = static_cast<size_t>(row) * a.top_k + k;
      add(a.weights[pair], a.routed + pair * size + i);
    }
    share = sigmoid(a.logits[static_cast<size_t>(row) * a.logit_columns + a.experts]);
  }
  add(share, a.shared + static_cast<size_t>(row) * size + i);
  *to = sum;
}

// Maps floats to integers of the same order.
__device__ uint32_t ordered(float x) {
  const uint32_t bits = __float_as_uint(x);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

__global__ void find_best_kernel(const float* logits, int size, unsigned long long* best) {
  __shared__ unsigned long long of_warp[kThreads / 32];
  let_next_start();
  wait_for_previous();
  const float* row = logits + static_cast<size_t>(blockIdx.y) * size;
  unsigned long long mine = 0;
  for (int i = thread_of_grid(); i < size; i += static_cast<int>(gridDim.x) * kThreads) {
    // The index is complemented: among equal logits, the smaller index gives the larger word.
    const unsigned long long word =
        static_cast<unsigned long long>(ordered(row[i])) << 32 | ~static_cast<uint32_t>(i);
    mine = word > mine ? word : mine;
  }
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    const unsigned long long other = __shfl_xor_sync(0xffffffffu, mine, offset);
    mine = other > mine ? other : mine;
  }
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = mine;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (const unsigned long long word : of_warp) mine = word > mine ? word : mine;
  atomicMax(best + blockIdx.y, mine);
}

constexpr int kGroupThreads = 1024;

// A counting sort by one block. The pairs of an expert get an arbitrary order. The results do not
// depend on it, as each pair is computed by itself.
__global__ void group_kernel(const int32_t* ids, int pairs, int experts, Grouping to) {
  extern __shared__ int32_t counters[];
  int32_t* count = counters;
  int32_t* next = counters + experts;
  for (int e = static_cast<int>(threadIdx.x); e < experts; e += kGroupThreads) count[e] = 0;
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < pairs; i += kGroupThreads)
    atomicAdd(count + ids[i], 1);
  __syncthreads();
  if (threadIdx.x < 32) {  // one warp: prefix sums over the experts, 32 at a time
    const int lane = static_cast<int>(threadIdx.x);
    int first = 0;
    int items = 0;
    for (int base = 0; base < experts; base += 32) {
      const int e = base + lane;
      const int mine = e < experts ? count[e] : 0;
      const int my_items = (mine + kItemPairs - 1) / kItemPairs;
      int pairs_through = mine;
      int items_through = my_items;
#pragma unroll
      for (int offset = 1; offset < 32; offset *= 2) {
        const int other_pairs = __shfl_up_sync(0xffffffffu, pairs_through, offset);
        const int other_items = __shfl_up_sync(0xffffffffu, items_through, offset);
        if (lane >= offset) pairs_through += other_pairs, items_through += other_items;
      }
      const int my_first = first + pairs_through - mine;
      if (e < experts) next[e] = my_first;
      for (int i = 0; i < my_items; ++i) {
        to.items[items + items_through - my_items + i] = {e, my_first + i * kItemPairs,
                                                          min(kItemPairs, mine - i * kItemPairs)};
      }
      first += __shfl_sync(0xffffffffu, pairs_through, 31);
      items += __shfl_sync(0xffffffffu, items_through, 31);
    }
    if (lane == 0) *to.item_count = items;
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < pairs; i += kGroupThreads)
    to.order[atomicAdd(next + ids[i], 1)] = i;
}

// The finalizer of splitmix64.
__device__ uint64_t mixed(uint64_t x) {
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ x >> 27) * 0x94d049bb133111ebull;
  return x ^ x >> 31;
}

template <class T>
__global__ void fill_random_kernel(T* to, int64_t count, uint64_t seed, float scale) {
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < count;
       i += static_cast<int64_t>(gridDim.x) * kThreads) {
    const uint64_t bits = mixed(seed + static_cast<uint64_t>(i) * 0x9e3779b97f4a7c15ull);
    int sum = 0;
    for (int draw = 0; draw < 4; ++draw) sum += static_cast<int>(bits >> (16 * draw) & 0xffff);
    to[i] = from_float<T>((static_cast<float>(sum) - 131070.0f) * scale);
  }
}

__global__ void fill_kernel(float* to, int64_t count, float value) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < count) to[i] = value;
}

}  // namespace

void embed(NumberType type, const void* embedding, const RowSlot* slots, int size, float* hidden,
           unsigned long long* best, int rows, cudaStream_t stream) {
  for_type(type, [&](auto number) {
    using T = decltype(number);
    launch(embed_kernel<T>, false, rows, kThreads, 0, stream, static_cast<const T*>(embedding),
           slots, size, hidden, best);
  });
}

void rms_norm(NumberType type, const float* hidden, const int32_t* row_of, const float* weight,
              float epsilon, int size, void* out, int rows, cudaStream_t stream) {
  for_type(type, [&](auto number) {
    using T = decltype(number);
    launch(rms_norm_kernel<T>, false, rows, kThreads, 0, stream, hidden, row_of, weight, epsilon,
           size, static_cast<T*>(out));
  });
}

void route(const float* logits, int experts, int top_k, bool renormalize, int32_t* ids,
           float* weights, int rows, cudaStream_t stream) {
  launch(route_kernel, false, (rows + kRouteWarps - 1) / kRouteWarps, kRouteWarps * 32,
         static_cast<size_t>(kRouteWarps) * static_cast<size_t>(experts) * sizeof(float), stream,
         logits, experts, logit_columns(experts), top_k, renormalize, ids, weights, rows);
}

void silu_multiply(NumberType type, const float* gate_up, int inner, void* out, int rows,
                   cudaStream_t stream) {
  for_type(type, [&](auto number) {
    using T = decltype(number);
    const int64_t count = static_cast<int64_t>(rows) * inner;
    launch(silu_multiply_kernel<T>, false, blocks_for(count), kThreads, 0, stream, gate_up, inner,
           static_cast<T*>(out), count);
  });
}

void add_mlp(const MlpSum& sum, int size, float* hidden, int rows, cudaStream_t stream) {
  launch(add_mlp_kernel, false, dim3(blocks_for(size / 4), rows), kThreads, 0, stream, sum, size,
         hidden);
}

void find_best(const float* logits, int size, unsigned long long* best, int rows, bool chained,
               cudaStream_t stream) {
  const int blocks = std::max(1, std::min(64, 1024 / rows));
  launch(find_best_kernel, chained, dim3(blocks, rows), kThreads, 0, stream, logits, size, best);
}

int most_items(int pairs, int experts) {
  return std::min(pairs, experts) + pairs / kItemPairs;
}

void group_by_expert(const int32_t* ids, int pairs, int experts, const Grouping& grouping,
                     cudaStream_t stream) {
  launch(group_kernel, false, 1, kGroupThreads, 2 * static_cast<size_t>(experts) * sizeof(int32_t),
         stream, ids, pairs, experts, grouping);
}

void fill_random(NumberType type, void* to, int64_t count, uint64_t seed, float deviation,
                 cudaStream_t stream) {
  // The standard deviation of the sum of four uniform 16-bit draws: 2 * 65536 / sqrt(12).
  const float scale = deviation / 37837.2f;
  for_type(type, [&](auto number) {
    using T = decltype(number);
    launch(fill_random_kernel<T>, false, std::min(blocks_for(count), 1 << 14), kThreads, 0, stream,
           static_cast<T*>(to), count, seed, scale);
  });
}

void fill(float* to, int64_t count, float value, cudaStream_t stream) {
  launch(fill_kernel, false, blocks_for(count), kThreads, 0, stream, to, count, value);
}

}  // namespace moetrace::engine::gpu
