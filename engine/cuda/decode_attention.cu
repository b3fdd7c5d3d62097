#include <algorithm>

#include "engine/cuda/chained_launch.cuh"
#include "engine/cuda/for_type.cuh"
#include "engine/cuda/rotary.cuh"

namespace moetrace::engine::gpu {

namespace {

constexpr int kThreads = 256;
constexpr int kDims = 8;          // elements of a head in one lane
constexpr int kUnroll = 4;        // positions that a lane loads at once
constexpr int kLeastChunk = 256;  // minimum positions of a block

// A running softmax-weighted sum of values over positions, for the elements in this lane.
struct Mixture {
  float largest = -INFINITY;
  float sum = 0;
  float mixed[kDims] = {};

  template <int kCount>
  __device__ void add(const float (&scores)[kCount], const float (&values)[kCount][kDims]) {
    float now = largest;
#pragma unroll
    for (int u = 0; u < kCount; ++u) now = fmaxf(now, scores[u]);
    if (now == -INFINITY) return;  // no position so far
    const float before = expf(largest - now);
    largest = now;
    sum *= before;
#pragma unroll
    for (int d = 0; d < kDims; ++d) mixed[d] *= before;
#pragma unroll
    for (int u = 0; u < kCount; ++u) {
      const float power = expf(scores[u] - now);
      sum += power;
#pragma unroll
      for (int d = 0; d < kDims; ++d) mixed[d] += power * values[u][d];
    }
  }
};

__device__ float dot(const float (&a)[kDims], const float (&b)[kDims]) {
  float sum = 0;
#pragma unroll
  for (int d = 0; d < kDims; ++d) sum += a[d] * b[d];
  return sum;
}

// Grid: (heads * splits, rows). head_dim / 8 lanes form a group that shares a position; the groups
// of a block take positions in turn.
template <class T>
__global__ __launch_bounds__(kThreads) void decode_attention_kernel(AttentionShape shape,
                                                                    const RowSlot* slots,
                                                                    const float* qkv,
                                                                    AttentionScratch scratch,
                                                                    T* out) {
  __shared__ Turns turns;
  __shared__ float query[kMostHeadDim];
  __shared__ float new_key[kMostHeadDim];
  __shared__ float new_value[kMostHeadDim];
  __shared__ float mixed[kThreads * kDims];  // [groups, head_dim]
  __shared__ float largest[kThreads], sums[kThreads], powers[kThreads];
  __shared__ bool last;
  const int thread = static_cast<int>(threadIdx.x);
  const int row = static_cast<int>(blockIdx.y);
  const int head = static_cast<int>(blockIdx.x) / scratch.splits;
  const int split = static_cast<int>(blockIdx.x) % scratch.splits;
  const RowSlot slot = slots[row];
  const int length = slot.position + 1;
  const int even = (length + scratch.splits - 1) / scratch.splits;
  const int chunk = (even + kLeastChunk - 1) / kLeastChunk * kLeastChunk;
  const int active = (length + chunk - 1) / chunk;
  if (split >= active) return;
  const int begin = split * chunk;
  const bool has_new = split == active - 1;
  const int end = has_new ? length - 1 : begin + chunk;  // of the positions already in the cache

  // Read before the wait: the slots, which were copied before the pass, and the cache up to the new
  // position, which earlier passes wrote.
  const int dim = shape.head_dim;
  const int half = dim / 2;
  const int sharing = shape.heads / shape.kv_heads;
  const int kv_head = head / sharing;
  const CacheOf<T> cache = cache_of<T>(slot, shape, kv_head);
  constexpr int kLine = 128 / sizeof(T);
  for (int i = begin * dim + thread * kLine; i < end * dim; i += kThreads * kLine) {
    asm volatile("prefetch.global.L2 [%0];" ::"l"(cache.keys + i));
    asm volatile("prefetch.global.L2 [%0];" ::"l"(cache.values + i));
  }
  turns.set(half, slot.position, shape.inverse_frequency);
  __syncthreads();
  let_next_start();
  wait_for_previous();
  const float* of_row = qkv + static_cast<size_t>(row) * (shape.heads + 2 * shape.kv_heads) * dim;
  const float scale = rsqrtf(static_cast<float>(dim));
  const auto bias_of = [&](int which) {
    return shape.bias != nullptr ? shape.bias + which * dim : nullptr;
  };
  // Each thread takes a pair of elements of the query, of the new key or of the new value.
  for (int i = thread; i < (has_new ? 3 : 1) * half; i += kThreads) {
    const int pair = i % half;
    const int kind = i / half;
    const int which = kind == 0 ? head : shape.heads + (kind - 1) * shape.kv_heads + kv_head;
    const float* x = of_row + which * dim;
    if (kind == 0) {
      const float2 turned = turns.apply(x, bias_of(which), pair, half);
      query[pair] = turned.x * scale;
      query[pair + half] = turned.y * scale;
      continue;
    }
    const float2 numbers = kind == 1 ? turns.apply(x, bias_of(which), pair, half)
                                     : float2{with_bias(x, bias_of(which), pair),
                                              with_bias(x, bias_of(which), pair + half)};
    const T low = from_float<T>(numbers.x);
    const T high = from_float<T>(numbers.y);
    float* kept = kind == 1 ? new_key : new_value;
    kept[pair] = to_float(low);
    kept[pair + half] = to_float(high);
    if (head % sharing == 0) {
      T* to = (kind == 1 ? cache.keys : cache.values) + static_cast<size_t>(slot.position) * dim;
      to[pair] = low;
      to[pair + half] = high;
    }
  }
  __syncthreads();

  const int lanes = dim / kDims;
  const int groups = kThreads / lanes;
  const int group = thread / lanes;
  const int first_dim = thread % lanes * kDims;
  float q[kDims];
  load8(query + first_dim, q);
  const auto score = [&](const float(&key)[kDims], bool there) {
    float sum = dot(q, key);
    for (int offset = lanes / 2; offset > 0; offset /= 2)
      sum += __shfl_xor_sync(0xffffffffu, sum, offset);
    return there ? sum : -INFINITY;
  };
  Mixture mixture;
  for (int base = begin; base < end; base += groups * kUnroll) {
    float keys[kUnroll][kDims] = {};
    float values[kUnroll][kDims] = {};
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int position = base + u * groups + group;
      if (position < end) {
        load8(cache.keys + static_cast<size_t>(position) * dim + first_dim, keys[u]);
        load8(cache.values + static_cast<size_t>(position) * dim + first_dim, values[u]);
      }
    }
    float scores[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) scores[u] = score(keys[u], base + u * groups + group < end);
    mixture.add(scores, values);
  }
  if (has_new) {
    float key[kDims];
    float values[1][kDims];
    load8(new_key + first_dim, key);
    load8(new_value + first_dim, values[0]);
    const float scores[1] = {score(key, group == 0)};
    mixture.add(scores, values);
  }

  if (first_dim == 0) largest[group] = mixture.largest, sums[group] = mixture.sum;
#pragma unroll
  for (int d = 0; d < kDims; ++d) mixed[group * dim + first_dim + d] = mixture.mixed[d];
  __syncthreads();
  float top = -INFINITY;
  for (int g = 0; g < groups; ++g) top = fmaxf(top, largest[g]);
  if (thread < groups) powers[thread] = expf(largest[thread] - top);
  __syncthreads();
  float total = 0;
  for (int g = 0; g < groups; ++g) total += sums[g] * powers[g];
  T* to = out + (static_cast<size_t>(row) * shape.heads + head) * dim;
  float* parts =
      scratch.part + (static_cast<size_t>(row) * shape.heads + head) * scratch.splits * (dim + 2);
  for (int i = thread; i < dim; i += kThreads) {
    float value = 0;
    for (int g = 0; g < groups; ++g) value += mixed[g * dim + i] * powers[g];
    if (active == 1) {
      to[i] = from_float<T>(value / total);
    } else {
      parts[split * (dim + 2) + i] = value;
    }
  }
  if (active == 1) return;
  if (thread == 0) {
    parts[split * (dim + 2) + dim] = top;
    parts[split * (dim + 2) + dim + 1] = total;
  }
  // Publishes the parts before the count; pairs with the fence of the block that arrives last.
  __threadfence();
  __syncthreads();
  uint32_t* arrived = scratch.arrived + row * shape.heads + head;
  if (thread == 0) last = atomicAdd(arrived, 1u) == static_cast<uint32_t>(active) - 1;
  __syncthreads();
  if (!last) return;
  __threadfence();  // pairs with the fences of the other blocks, before reading their parts
  if (thread == 0) *arrived = 0;
  top = -INFINITY;
  for (int s = 0; s < active; ++s) top = fmaxf(top, __ldcg(parts + s * (dim + 2) + dim));
  for (int i = thread; i < dim; i += kThreads) {
    float value = 0;
    float weight = 0;
    for (int s = 0; s < active; ++s) {  // in a fixed order, so that the result is deterministic
      const float power = expf(__ldcg(parts + s * (dim + 2) + dim) - top);
      value += __ldcg(parts + s * (dim + 2) + i) * power;
      weight += __ldcg(parts + s * (dim + 2) + dim + 1) * power;
    }
    to[i] = from_float<T>(value / weight);
  }
}

}  // namespace

int attention_splits(int rows, int heads) {
  // 264: two blocks for each of the 132 multiprocessors of a Hopper GPU. A short context uses fewer
  // splits, as each takes at least kLeastChunk positions.
  return std::clamp(264 / (rows * heads), 1, 16);
}

void decode_attention(NumberType type, const AttentionShape& shape, const RowSlot* slots,
                      const float* qkv, const AttentionScratch& scratch, void* out, int rows,
                      bool chained, cudaStream_t stream) {
  for_type(type, [&](auto number) {
    using T = decltype(number);
    launch(decode_attention_kernel<T>, chained, dim3(shape.heads * scratch.splits, rows), kThreads,
           0, stream, shape, slots, qkv, scratch, static_cast<T*>(out));
  });
}

}  // namespace moetrace::engine::gpu
