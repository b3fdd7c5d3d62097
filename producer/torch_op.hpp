// The hook as a libtorch operator, for models that are compiled or captured, and for C++ engines:
//
//   moetrace::record(Tensor(a!) topk_weights, Tensor topk_ids, int layer, int producer) -> ()
//
// topk_weights [rows, top_k] float32, bfloat16 or float16; topk_ids [rows, top_k] int16, int32 or
// int64, on the same device. `producer` is the address that moetrace_open returned (0: nothing is
// recorded). The weights are declared as changed, though they never are: so a compiler keeps the
// call, in front of the experts, which read the weights afterwards. (Under torch.compile of PyTorch
// 2.11 every row arrived; a function that never reads the weights again loses the call with them.)
// Order and threads: as moetrace_record in producer.h. Tensors of
// another shape or type are a mistake of the model's author and throw c10::Error; everything else
// is counted, never reported. Kernels: CPU, and Meta (for tracing; does nothing).
#pragma once

#define MOETRACE_TORCH_RECORD "moetrace::record"

namespace moetrace {

// Its schema, as registered. Calling it makes sure that a linker keeps this library, whose loading
// registers the operator.
__attribute__((visibility("default"))) const char* torch_record_schema();

}  // namespace moetrace
