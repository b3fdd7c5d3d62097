// Shared by decode and prefill attention: the address of a head in a cache, and rotary positions.
#pragma once

#include "engine/cuda/attention_kernels.hpp"
#include "engine/cuda/numbers.cuh"

namespace moetrace::engine::gpu {

template <class T>
struct CacheOf {
  T* keys;
  T* values;
};

// Keys and values of one kv head in a layer: [capacity, head_dim] each.
template <class T>
__device__ CacheOf<T> cache_of(const RowSlot& slot, const AttentionShape& shape, int kv_head) {
  const size_t head = static_cast<size_t>(slot.capacity) * shape.head_dim;
  T* keys = static_cast<T*>(slot.cache) +
            (static_cast<size_t>(shape.layer) * shape.kv_heads + kv_head) * head;
  return {keys, keys + static_cast<size_t>(shape.layers) * shape.kv_heads * head};
}

__device__ inline float with_bias(const float* x, const float* bias, int i) {
  return bias != nullptr ? x[i] + bias[i] : x[i];
}

// The rotary angles of a head's pairs at one position, as cosines and sines in shared memory.
struct Turns {
  float cosine[kMostHeadDim / 2];
  float sine[kMostHeadDim / 2];

  // Call by the whole block, and put a barrier before the first apply().
  __device__ void set(int half, int position, const float* inverse_frequency) {
    for (int i = static_cast<int>(threadIdx.x); i < half; i += static_cast<int>(blockDim.x))
      sincosf(static_cast<float>(position) * inverse_frequency[i], &sine[i], &cosine[i]);
  }
  // Returns the elements (i, i + half) of the head x, rotated.
  __device__ float2 apply(const float* x, const float* bias, int i, int half) const {
    const float low = with_bias(x, bias, i);
    const float high = with_bias(x, bias, i + half);
    return {low * cosine[i] - high * sine[i], high * cosine[i] + low * sine[i]};
  }
};

}  // namespace moetrace::engine::gpu
