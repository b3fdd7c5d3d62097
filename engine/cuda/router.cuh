// Softmax over all experts, and the top_k largest of them: one row, by one warp.
#pragma once

#include "engine/cuda/numbers.cuh"

namespace moetrace::engine::gpu {

// probabilities: [experts], in shared memory. Holds the logits before, and is overwritten. ids and
// weights: [top_k], by descending weight; equal weights by ascending id. top_k is at most 32.
// renormalize: divides the weights by their sum.
__device__ inline void route_row(float* probabilities, int experts, int top_k, bool renormalize,
                                 int32_t* ids, float* weights) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  float largest = -INFINITY;
  for (int e = lane; e < experts; e += 32) largest = fmaxf(largest, probabilities[e]);
  largest = warp_max(largest);
  float sum = 0;
  for (int e = lane; e < experts; e += 32) {
    const float power = expf(probabilities[e] - largest);
    probabilities[e] = power;
    sum += power;
  }
  sum = warp_sum(sum);
  for (int e = lane; e < experts; e += 32) probabilities[e] = __fdiv_rn(probabilities[e], sum);

  float chosen_sum = 0;
  float mine = 0;  // lane k keeps the k-th weight
  int my_id = 0;   // and its expert
  for (int k = 0; k < top_k; ++k) {
    float best = -1.0f;  // below every probability, above the mark of chosen experts
    int best_id = experts;
    for (int e = lane; e < experts; e += 32) {
      if (probabilities[e] > best) best = probabilities[e], best_id = e;
    }
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) {
      const float other = __shfl_xor_sync(0xffffffffu, best, offset);
      const int other_id = __shfl_xor_sync(0xffffffffu, best_id, offset);
      if (other > best || (other == best && other_id < best_id)) best = other, best_id = other_id;
    }
    // NaN logits: every comparison is false, so choose any expert that exists.
    if (best_id >= experts) best_id = k, best = 0;
    if (lane == best_id % 32) probabilities[best_id] = -2.0f;  // marks it as chosen
    if (lane == k) mine = best, my_id = best_id;
    chosen_sum += best;
  }
  if (lane < top_k) {
    ids[lane] = my_id;
    weights[lane] = renormalize ? __fdiv_rn(mine, chosen_sum) : mine;
  }
}

}  // namespace moetrace::engine::gpu
