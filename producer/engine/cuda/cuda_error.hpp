// Errors of the CUDA runtime and of cuBLAS: thrown inside the CUDA engine, turned into a Result at
// its edge.
#pragma once

#include <cublas_v2.h>
#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

#include "producer/engine/result.hpp"

namespace moetrace::engine::gpu {

class CudaError : public std::runtime_error {
 public:
  CudaError(bool memory, const std::string& what) : std::runtime_error(what), memory_(memory) {}
  bool memory() const { return memory_; }  // there was not enough of it

 private:
  bool memory_;
};

inline void check(cudaError_t status, const char* doing) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // so that the next check does not find it again
  throw CudaError(status == cudaErrorMemoryAllocation,
                  std::string(doing) + ": " + cudaGetErrorString(status));
}

inline void check(cublasStatus_t status, const char* doing) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw CudaError(status == CUBLAS_STATUS_ALLOC_FAILED,
                  std::string(doing) + ": " + cublasGetStatusString(status));
}

template <class T>
struct ResultOf {
  using type = Result<T>;
};
template <class T>
struct ResultOf<Result<T>> {
  using type = Result<T>;
};

// Exceptions end here. What `work` returns, a value or a Result.
template <class Work>
auto caught(const Work& work) -> typename ResultOf<decltype(work())>::type {
  try {
    return work();
  } catch (const std::bad_alloc&) {
    return Error{ErrorCode::kNoMemory, "not enough memory"};
  } catch (const CudaError& error) {
    return Error{error.memory() ? ErrorCode::kNoMemory : ErrorCode::kFailed,
                 std::string("cuda: ") + error.what()};
  }
}

}  // namespace moetrace::engine::gpu
