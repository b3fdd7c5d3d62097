// The checks of the operators' arguments, for every device.
#pragma once

#include <ATen/ATen.h>

#include "producer/producer.h"

namespace moetrace {

inline moetrace_type id_type(const at::Tensor& ids) {
  switch (ids.scalar_type()) {
    case at::kShort:
      return MOETRACE_INT16;
    case at::kInt:
      return MOETRACE_INT32;
    case at::kLong:
      return MOETRACE_INT64;
    default:
      TORCH_CHECK(false, "moetrace::record: topk_ids must be int16, int32 or int64, got ",
                  ids.scalar_type());
  }
}

inline moetrace_type weight_type(const at::Tensor& weights) {
  switch (weights.scalar_type()) {
    case at::kFloat:
      return MOETRACE_FLOAT32;
    case at::kBFloat16:
      return MOETRACE_BFLOAT16;
    case at::kHalf:
      return MOETRACE_FLOAT16;
    default:
      TORCH_CHECK(false,
                  "moetrace::record: topk_weights must be float32, bfloat16 or float16, got ",
                  weights.scalar_type());
  }
}

inline void check_routing(const at::Tensor& weights, const at::Tensor& ids, int64_t layer) {
  TORCH_CHECK(ids.dim() == 2 && weights.dim() == 2 && ids.sizes() == weights.sizes(),
              "moetrace::record: topk_weights and topk_ids must both be [rows, top_k], got ",
              weights.sizes(), " and ", ids.sizes());
  TORCH_CHECK(layer >= 0 && layer < static_cast<int64_t>(MOETRACE_MAX_LAYERS),
              "moetrace::record: invalid layer ", layer, ": expected 0 to ",
              MOETRACE_MAX_LAYERS - 1);
}

inline moetrace_producer* producer_at(int64_t address) {
  return reinterpret_cast<moetrace_producer*>(address);
}

}  // namespace moetrace
