#include "producer/torch/torch_op.hpp"

#include <torch/library.h>

#include "producer/torch/torch_op_check.hpp"

namespace moetrace {

namespace {

constexpr const char* kRecord =
    "record(Tensor(a!) topk_weights, Tensor topk_ids, int layer, int producer) -> ()";
constexpr const char* kRecordBranch =
    "record_branch(Tensor(a!) topk_weights, Tensor topk_ids, int layer, int producer) -> ()";
constexpr const char* kJoin =
    "join(Tensor(a!) out, Tensor topk_weights, Tensor topk_ids, int producer) -> ()";

void record_cpu(at::Tensor& weights, const at::Tensor& ids, int64_t layer, int64_t producer) {
  check_routing(weights, ids, layer);
  const moetrace_type ids_are = id_type(ids);
  const moetrace_type weights_are = weight_type(weights);
  const at::Tensor dense_ids = ids.contiguous();
  const at::Tensor dense_weights = weights.contiguous();
  moetrace_record(producer_at(producer), static_cast<uint32_t>(layer), dense_ids.data_ptr(),
                  ids_are, dense_weights.data_ptr(), weights_are,
                  static_cast<uint32_t>(ids.size(0)));
}

void record_meta(at::Tensor& weights, const at::Tensor& ids, int64_t layer, int64_t /*producer*/) {
  check_routing(weights, ids, layer);
}

void join_nothing(at::Tensor& /*out*/, const at::Tensor& /*weights*/, const at::Tensor& /*ids*/,
                  int64_t /*producer*/) {}

}  // namespace

const char* torch_record_schema() {
  return kRecord;
}

}  // namespace moetrace

TORCH_LIBRARY(moetrace, library) {
  library.def(moetrace::kRecord);
  library.def(moetrace::kRecordBranch);
  library.def(moetrace::kJoin);
}
TORCH_LIBRARY_IMPL(moetrace, CPU, library) {
  library.impl("record", moetrace::record_cpu);
  library.impl("record_branch", moetrace::record_cpu);
  library.impl("join", moetrace::join_nothing);
}
TORCH_LIBRARY_IMPL(moetrace, Meta, library) {
  library.impl("record", moetrace::record_meta);
  library.impl("record_branch", moetrace::record_meta);
  library.impl("join", moetrace::join_nothing);
}
// Autograd passes through, because no value changes.
TORCH_LIBRARY_IMPL(moetrace, Autograd, library) {
  for (const char* name : {"record", "record_branch", "join"})
    library.impl(name, torch::CppFunction::makeFallthrough());
}
