// Softmax over all experts and the k largest of them, for one row by one warp.
#pragma once

#include "engine/cuda/numbers.cuh"

namespace moetrace::engine::gpu {

// probabilities: shared memory, [experts], holding the logits; overwritten. ids and weights: [k],
// by falling weight, equal ones by rising id. renormalize: the k weights are divided by their sum.
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
  float mine = 0;  // lane k keeps the k-th weight, and this its expert
  int my_id = 0;
  for (int k = 0; k < top_k; ++k) {
    float best = -1.0f;  // below every probability, above what was taken
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
    // NaN logits compare with nothing: any expert that exists will do.
    if (best_id >= experts) best_id = k, best = 0;
    if (lane == best_id % 32) probabilities[best_id] = -2.0f;
    if (lane == k) mine = best, my_id = best_id;
    chosen_sum += best;
  }
  if (lane < top_k) {
    ids[lane] = my_id;
    weights[lane] = renormalize ? __fdiv_rn(mine, chosen_sum) : mine;
  }
}

}  // namespace moetrace::engine::gpu
