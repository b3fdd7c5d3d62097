// clang-format off
// The hook as libtorch operators, for models that are compiled or captured, and for C++ engines.
//
//   moetrace::record(Tensor(a!) topk_weights, Tensor topk_ids, int layer, int producer) -> ()
//
// Records one layer. topk_weights: [rows, top_k] float32, bfloat16 or float16. topk_ids: [rows,
// top_k] int16, int32 or int64, on the same device. `producer`: the address that moetrace_open
// returned; 0 records nothing. On a GPU the operator runs in line, in the current stream.
//
// The schema declares that the weights change, although they never do: this makes a compiler keep
// the call, before the experts, which read the weights. (With torch.compile of PyTorch 2.11 every
// row arrived. A function that never reads the weights afterwards loses the call with them.)
//
//   moetrace::record_branch(Tensor(a!) topk_weights, Tensor topk_ids, int layer, int producer) -> ()
//   moetrace::join(Tensor(a!) out, Tensor topk_weights, Tensor topk_ids, int producer) -> ()
//
// Record beside the experts, for contiguous tensors on a GPU. Call join with the experts' output
// and the same tensors once the experts are enqueued: until then it keeps the tensors from being
// freed or reused, by a compiler too. On a CPU record_branch does what record does, and join does
// nothing.
//
// Order and threads: as for moetrace_record and moetrace_join in producer.h. Tensors of a wrong
// shape or type throw c10::Error; everything else is counted and never reported. Kernels exist for
// CPU, for CUDA if libtorch and libmoetrace have it, and for Meta (tracing; does nothing).
// clang-format on
#pragma once

#define MOETRACE_TORCH_RECORD "moetrace::record"

namespace moetrace {

// The registered schema of moetrace::record. Loading this library registers the operators; call
// this function to make the linker keep the library.
__attribute__((visibility("default"))) const char* torch_record_schema();

}  // namespace moetrace
