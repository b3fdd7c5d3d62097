// The hook as libtorch operators, for models that are compiled or captured, and for C++ engines:
//
//   moetrace::record(Tensor(a!) topk_weights, Tensor topk_ids, int layer, int producer) -> ()
//
// topk_weights [rows, top_k] float32, bfloat16 or float16; topk_ids [rows, top_k] int16, int32 or
// int64, on the same device. `producer` is the address that moetrace_open returned (0: nothing is
// recorded). The weights are declared as changed, though they never are: so a compiler keeps the
// call, in front of the experts, which read the weights afterwards. (Under torch.compile of PyTorch
// 2.11 every row arrived; a function that never reads the weights again loses the call with them.)
// On a GPU it runs in line, in the current stream.
//
//   moetrace::record_branch(Tensor(a!) topk_weights, Tensor topk_ids, int layer, int producer) ->
//   () moetrace::join(Tensor(a!) out, Tensor topk_weights, Tensor topk_ids, int producer) -> ()
//
// The same beside the experts, for tensors on a GPU (on a CPU the first is `record`, and the second
// does nothing). The tensors must be contiguous. Call join with the experts' output and the same
// tensors once the experts have been enqueued: until then it keeps the tensors from being freed or
// reused, by a compiler too.
//
// Order and threads: as moetrace_record, moetrace_record_cuda and moetrace_join in producer.h.
// Tensors of another shape or type are a mistake of the model's author and throw c10::Error;
// everything else is counted, never reported. Kernels: CPU, CUDA where libtorch and libmoetrace
// have it, and Meta (for tracing; does nothing).
#pragma once

#define MOETRACE_TORCH_RECORD "moetrace::record"

namespace moetrace {

// The schema of moetrace::record, as registered. Calling it makes sure that a linker keeps this
// library, whose loading registers the operators.
__attribute__((visibility("default"))) const char* torch_record_schema();

}  // namespace moetrace
