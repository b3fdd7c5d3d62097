// The operators' kernels for tensors on a GPU; compiled only if libtorch has CUDA.
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "producer/torch/torch_op.hpp"
#include "producer/torch/torch_op_check.hpp"

namespace moetrace {

namespace {

moetrace_cuda_stream stream_of(const at::Tensor& tensor) {
  return c10::cuda::getCurrentCUDAStream(tensor.device().index()).stream();
}

void record_cuda(at::Tensor& weights, const at::Tensor& ids, int64_t layer, int64_t producer) {
  check_routing(weights, ids, layer);
  const moetrace_type ids_are = id_type(ids);
  const moetrace_type weights_are = weight_type(weights);
  // The copies may be freed on return: the allocator's next user of their memory comes later in the
  // same stream.
  const at::Tensor dense_ids = ids.contiguous();
  const at::Tensor dense_weights = weights.contiguous();
  moetrace_record_cuda_in_line(producer_at(producer), stream_of(ids), static_cast<uint32_t>(layer),
                               dense_ids.data_ptr(), ids_are, dense_weights.data_ptr(), weights_are,
                               static_cast<uint32_t>(ids.size(0)));
}

void record_branch_cuda(at::Tensor& weights, const at::Tensor& ids, int64_t layer,
                        int64_t producer) {
  check_routing(weights, ids, layer);
  // A copy would be freed before the branch has read it.
  TORCH_CHECK(ids.is_contiguous() && weights.is_contiguous(),
              "moetrace::record_branch: topk_weights and topk_ids must be contiguous; call "
              ".contiguous() and keep the results until moetrace::join");
  moetrace_record_cuda(producer_at(producer), stream_of(ids), static_cast<uint32_t>(layer),
                       ids.data_ptr(), id_type(ids), weights.data_ptr(), weight_type(weights),
                       static_cast<uint32_t>(ids.size(0)));
}

void join_cuda(at::Tensor& out, const at::Tensor& /*weights*/, const at::Tensor& /*ids*/,
               int64_t producer) {
  moetrace_join(producer_at(producer), stream_of(out));
}

}  // namespace

}  // namespace moetrace

TORCH_LIBRARY_IMPL(moetrace, CUDA, library) {
  library.impl("record", moetrace::record_cuda);
  library.impl("record_branch", moetrace::record_branch_cuda);
  library.impl("join", moetrace::join_cuda);
}
