// A stand-in for one MoE layer, to measure what the hook adds to it: a router that writes ids and
// weights, and experts that read their weights from memory as real ones do.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace moetrace::bench {

// Qwen1.5-MoE-A2.7B: 60 experts of 3 x 2048 x 1408 bfloat16 weights, top-4.
inline constexpr std::uint32_t kExperts = 60;
inline constexpr std::uint32_t kTopK = 4;
inline constexpr std::uint64_t kExpertBytes = 3ull * 2048 * 1408 * 2;

// Writes ids, int32 [rows, 4] in [0, 60), and weights, float32 [rows, 4]. Each `salt` gives other
// values.
void launch_router(cudaStream_t stream, std::int32_t* ids, float* weights, std::uint32_t rows,
                   std::uint32_t salt);
// Reads `bytes` at `from`: two thirds in a first kernel (gate and up), the rest in a second (down).
// `sink`: 4 bytes, never written.
void launch_experts(cudaStream_t stream, const std::byte* from, std::uint64_t bytes,
                    std::uint32_t* sink);
// The expected number of experts that `rows` rows touch, with a uniform top-4 of 60.
double distinct_experts(std::uint32_t rows);

}  // namespace moetrace::bench
