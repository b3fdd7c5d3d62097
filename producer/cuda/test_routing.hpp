// Routing that follows from (step, layer, row) alone. A producer under load generates it on the
// GPU, and the checker generates it again.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "shm/route_layout.hpp"

namespace moetrace::cuda {

inline constexpr std::uint32_t kTestExperts = 60;
inline constexpr std::uint32_t kTestTopK = 4;

// 64 well-mixed bits (SplitMix64), 16 for each of the four choices.
MOETRACE_HOST_DEVICE inline std::uint64_t test_bits(std::uint64_t step, std::uint32_t layer,
                                                    std::uint32_t row) {
  std::uint64_t x = (step << 32) + (std::uint64_t{layer} << 24) + row + 0x9E3779B97F4A7C15ull;
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ x >> 27) * 0x94D049BB133111EBull;
  return x ^ x >> 31;
}
MOETRACE_HOST_DEVICE inline std::int32_t test_expert(std::uint64_t bits, std::uint32_t k) {
  return static_cast<std::int32_t>((bits >> 16 * k & 0xFFFF) % kTestExperts);
}
MOETRACE_HOST_DEVICE inline float test_weight(std::uint64_t bits, std::uint32_t k) {
  return static_cast<float>(bits >> 16 * k & 0xFFFF) * 0x1p-16f;
}

// Writes ids [rows, 4] and weights [rows, 4] of a layer in step *step, all in device memory.
cudaError_t launch_test_router(cudaStream_t stream, const std::uint64_t* step, std::uint32_t layer,
                               std::int32_t* ids, float* weights, std::uint32_t rows);
// Increments *step.
cudaError_t launch_next_step(cudaStream_t stream, std::uint64_t* step);

}  // namespace moetrace::cuda
