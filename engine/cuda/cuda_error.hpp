// Errors of the CUDA runtime and of cuBLAS. The CUDA engine throws them; caught.hpp turns them into
// Results at its edge.
#pragma once

#include <cublas_v2.h>
#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

namespace moetrace::engine::gpu {

class CudaError : public std::runtime_error {
 public:
  CudaError(bool memory, const std::string& what) : std::runtime_error(what), memory_(memory) {}
  bool memory() const { return memory_; }  // the cause was too little memory

 private:
  bool memory_;
};

inline void check(cudaError_t status, const char* doing) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // clears the error, so that the next check does not see it again
  throw CudaError(status == cudaErrorMemoryAllocation,
                  std::string(doing) + ": " + cudaGetErrorString(status));
}

inline void check(cublasStatus_t status, const char* doing) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw CudaError(status == CUBLAS_STATUS_ALLOC_FAILED,
                  std::string(doing) + ": " + cublasGetStatusString(status));
}

}  // namespace moetrace::engine::gpu
