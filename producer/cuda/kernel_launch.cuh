// A launch that returns its own error. After <<<>>> the error comes from cudaGetLastError(), which
// also returns, and clears, an error that the engine has not read yet.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <utility>

namespace moetrace::cuda {

template <class... Parameters, class... Arguments>
cudaError_t launch_kernel(void (*kernel)(Parameters...), unsigned blocks, unsigned threads,
                          std::size_t shared_bytes, cudaStream_t stream, Arguments&&... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(blocks);
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  return cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...);
}

}  // namespace moetrace::cuda
