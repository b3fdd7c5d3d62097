#include "producer/cuda/kernel_launch.cuh"
#include "producer/cuda/test_routing.hpp"

namespace moetrace::cuda {
namespace {

__global__ void route(const std::uint64_t* step, std::uint32_t layer, std::int32_t* ids,
                      float* weights, std::uint32_t rows) {
  const std::uint32_t row = blockIdx.x * blockDim.x + threadIdx.x;
  if (row >= rows) return;
  const std::uint64_t bits = test_bits(*step, layer, row);
  for (std::uint32_t k = 0; k < kTestTopK; ++k) {
    ids[row * kTestTopK + k] = test_expert(bits, k);
    weights[row * kTestTopK + k] = test_weight(bits, k);
  }
}

__global__ void next_step(std::uint64_t* step) {
  ++*step;
}

}  // namespace

cudaError_t launch_test_router(cudaStream_t stream, const std::uint64_t* step, std::uint32_t layer,
                               std::int32_t* ids, float* weights, std::uint32_t rows) {
  return launch_kernel(route, (rows + 127) / 128, 128, 0, stream, step, layer, ids, weights, rows);
}

cudaError_t launch_next_step(cudaStream_t stream, std::uint64_t* step) {
  return launch_kernel(next_step, 1, 1, 0, stream, step);
}

}  // namespace moetrace::cuda
