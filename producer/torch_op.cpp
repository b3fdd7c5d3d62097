#include "producer/torch_op.hpp"

#include <torch/library.h>

#include "producer/producer.h"

namespace moetrace {

namespace {

constexpr const char* kSchema =
    "record(Tensor(a!) topk_weights, Tensor topk_ids, int layer, int producer) -> ()";

moetrace_type id_type(const at::Tensor& ids) {
  switch (ids.scalar_type()) {
    case at::kShort:
      return MOETRACE_INT16;
    case at::kInt:
      return MOETRACE_INT32;
    case at::kLong:
      return MOETRACE_INT64;
    default:
      TORCH_CHECK(false, "moetrace::record: topk_ids must be int16, int32 or int64, not ",
                  ids.scalar_type());
  }
}

moetrace_type weight_type(const at::Tensor& weights) {
  switch (weights.scalar_type()) {
    case at::kFloat:
      return MOETRACE_FLOAT32;
    case at::kBFloat16:
      return MOETRACE_BFLOAT16;
    case at::kHalf:
      return MOETRACE_FLOAT16;
    default:
      TORCH_CHECK(false,
                  "moetrace::record: topk_weights must be float32, bfloat16 or float16, not ",
                  weights.scalar_type());
  }
}

void check(const at::Tensor& weights, const at::Tensor& ids, int64_t layer) {
  TORCH_CHECK(ids.dim() == 2 && weights.dim() == 2 && ids.sizes() == weights.sizes(),
              "moetrace::record: topk_weights and topk_ids must both be [rows, top_k], not ",
              weights.sizes(), " and ", ids.sizes());
  TORCH_CHECK(layer >= 0 && layer < static_cast<int64_t>(MOETRACE_MAX_LAYERS),
              "moetrace::record: layer ", layer, " is not below ", MOETRACE_MAX_LAYERS);
}

void record_cpu(at::Tensor& weights, const at::Tensor& ids, int64_t layer, int64_t producer) {
  check(weights, ids, layer);
  const moetrace_type ids_are = id_type(ids);
  const moetrace_type weights_are = weight_type(weights);
  const at::Tensor dense_ids = ids.contiguous();
  const at::Tensor dense_weights = weights.contiguous();
  moetrace_record(reinterpret_cast<moetrace_producer*>(producer), static_cast<uint32_t>(layer),
                  dense_ids.data_ptr(), ids_are, dense_weights.data_ptr(), weights_are,
                  static_cast<uint32_t>(ids.size(0)));
}

void record_meta(at::Tensor& weights, const at::Tensor& ids, int64_t layer, int64_t /*producer*/) {
  check(weights, ids, layer);
}

}  // namespace

const char* torch_record_schema() {
  return kSchema;
}

}  // namespace moetrace

TORCH_LIBRARY(moetrace, library) {
  library.def(moetrace::torch_record_schema());
}
TORCH_LIBRARY_IMPL(moetrace, CPU, library) {
  library.impl("record", moetrace::record_cpu);
}
TORCH_LIBRARY_IMPL(moetrace, Meta, library) {
  library.impl("record", moetrace::record_meta);
}
// Nothing to differentiate: no value changes.
TORCH_LIBRARY_IMPL(moetrace, Autograd, library) {
  library.impl("record", torch::CppFunction::makeFallthrough());
}
