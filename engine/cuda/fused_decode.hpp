// The kernels of a decode pass of at most 8 rows in bfloat16. Reading weights takes most of its
// time, so each kernel starts to read its weights while the previous one ends. An MoE layer has six
// launches: dense_gemv(), decode_attention(), dense_gemv() again, router_and_shared_up(),
// expert_up() and mlp_down().
//
// All functions: rows in [1, kFusedRows]; widths are multiples of 8; `chained` as in
// chained_launch.cuh; bf16 pointers are 16-byte aligned. They throw CudaError if a launch fails.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace moetrace::engine::gpu {

constexpr int kFusedRows = 8;

// y = x W^T, or y += x W^T.
struct DenseGemv {
  const __nv_bfloat16* weight;  // [out, in]
  int out, in;
  const float* norm;       // [in]: the input is rms_norm(hidden) * norm; nullptr: it is x
  const float* hidden;     // [rows, in]
  float epsilon;           // of the norm
  const __nv_bfloat16* x;  // [rows, in]
  float* y;                // [rows, out]
  bool accumulate;         // y += instead of y =
};
void dense_gemv(const DenseGemv& gemv, int rows, bool chained, cudaStream_t stream);

// The experts that a pass uses, each once. In device memory.
struct ExpertSlots {
  int32_t* count;   // [1], at most rows * top_k
  int32_t* expert;  // [rows * top_k], ascending
  float* weight;    // [rows * top_k, kFusedRows]: 0 where the row did not choose the expert
};

// Norm, router, softmax, top-k and the first half of the shared expert.
struct RouterAndSharedUp {
  const float* hidden;  // [rows, size]
  const float* norm;    // [size]
  float epsilon;
  int size;
  // [logit_columns, size]: the experts, then the shared expert's gate. nullptr: a dense layer,
  // which has no outputs of routing.
  const __nv_bfloat16* router;
  int experts, top_k;
  int logit_columns;
  bool renormalize;
  const __nv_bfloat16* gate_up;  // [2 * inner, size]
  int inner;
  // Out:
  __nv_bfloat16* normed;  // [rows, size]
  __nv_bfloat16* act;     // [rows, inner]: silu(gate) * up
  float* logits;          // [rows, logit_columns]
  int32_t* ids;           // [rows, top_k]
  float* weights;         // [rows, top_k]
  ExpertSlots slots;
  uint32_t* arrived;  // [1]: router tiles that are done; 0 before and after a launch
};
void router_and_shared_up(const RouterAndSharedUp& up, int rows, bool chained, cudaStream_t stream);

// The first half of the chosen experts, times the router's weights. Reads slots.
struct ExpertUp {
  const __nv_bfloat16* x;  // [rows, size]
  int size;
  const __nv_bfloat16* gate_up;  // [experts, 2 * inner, size]
  int inner;
  ExpertSlots slots;
  int top_k;
  __nv_bfloat16* act;  // out [slots, kFusedRows, inner]
};
void expert_up(const ExpertUp& up, int rows, bool chained, cudaStream_t stream);

// The second half of all experts, summed and added to the residual stream.
struct MlpDown {
  const __nv_bfloat16* shared_down;  // [size, shared_inner]
  const __nv_bfloat16* shared_act;   // [rows, shared_inner]
  int shared_inner;
  // [rows, logit_columns]: column `experts` is the shared expert's gate. nullptr: a dense layer,
  // which does not use the members from here to slots.
  const float* logits;
  int experts, logit_columns;
  const __nv_bfloat16* down;  // [experts, size, inner]
  const __nv_bfloat16* act;   // [slots, kFusedRows, inner]
  int inner;
  ExpertSlots slots;
  float* hidden;  // [rows, size]: input and output
  int size;
};
void mlp_down(const MlpDown& down, int rows, bool chained, cudaStream_t stream);

// Whether such a model fits in the kernels' shared memory.
bool fused_decode_fits(int64_t widest_input, int64_t experts, int64_t top_k);

}  // namespace moetrace::engine::gpu
