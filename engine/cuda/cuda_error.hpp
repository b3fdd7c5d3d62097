// Errors of the CUDA runtime and of cuBLAS: thrown inside the CUDA engine, turned into a Result at
// its edge (caught.hpp).
#pragma once

#include <cublas_v2.h>
#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

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

}  // namespace moetrace::engine::gpu
