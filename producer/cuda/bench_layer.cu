#include <cmath>

#include "producer/cuda/bench_layer.hpp"

namespace moetrace::bench {
namespace {

__device__ std::uint32_t mix(std::uint32_t x) {  // lowbias32 (Wellons)
  x = (x ^ x >> 16) * 0x21f0aaadu;
  x = (x ^ x >> 15) * 0x735a2d97u;
  return x ^ x >> 15;
}

__global__ void route(std::int32_t* ids, float* weights, std::uint32_t entries,
                      std::uint32_t salt) {
  const std::uint32_t n = blockIdx.x * blockDim.x + threadIdx.x;
  if (n >= entries) return;
  const std::uint32_t bits = mix(n ^ salt * 0x9E3779B9u);
  ids[n] = static_cast<std::int32_t>(bits % kExperts);
  weights[n] = static_cast<float>(bits >> 8) * 0x1p-24f;
}

// Shaped like a Triton MoE kernel: blocks of 256 threads with 64 KiB of shared memory, three on a
// multiprocessor. The grid has as many blocks as the weights need.
constexpr unsigned kThreads = 256;
constexpr unsigned kSharedBytes = 64 * 1024;
// Loads of 16 bytes per thread.
constexpr unsigned kLoads = 32;

__global__ void __launch_bounds__(kThreads)
    read_weights(const uint4* from, std::uint64_t count, std::uint32_t* sink) {
  std::uint32_t seen = 0;
  const std::uint64_t first = std::uint64_t{blockIdx.x} * kThreads * kLoads + threadIdx.x;
#pragma unroll 16
  for (unsigned n = 0; n < kLoads; ++n) {
    const std::uint64_t at = first + n * kThreads;
    const uint4 value = at < count ? __ldcs(from + at) : make_uint4(0, 0, 0, 0);
    seen |= value.x ^ value.y ^ value.z ^ value.w;
  }
  // Never true, because the memory is zero. The compiler can't know that, so it keeps the loads.
  if (seen == 0xFFFFFFFFu) *sink = seen;
}

void launch_read(cudaStream_t stream, const std::byte* from, std::uint64_t bytes,
                 std::uint32_t* sink) {
  static const cudaError_t allowed =
      cudaFuncSetAttribute(read_weights, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes);
  (void)allowed;
  constexpr std::uint64_t kBlockBytes = std::uint64_t{kThreads} * kLoads * 16;
  const auto blocks = static_cast<unsigned>((bytes + kBlockBytes - 1) / kBlockBytes);
  read_weights<<<blocks, kThreads, kSharedBytes, stream>>>(reinterpret_cast<const uint4*>(from),
                                                           bytes / 16, sink);
}

}  // namespace

void launch_router(cudaStream_t stream, std::int32_t* ids, float* weights, std::uint32_t rows,
                   std::uint32_t salt) {
  const std::uint32_t entries = rows * kTopK;
  route<<<(entries + 255) / 256, 256, 0, stream>>>(ids, weights, entries, salt);
}

void launch_experts(cudaStream_t stream, const std::byte* from, std::uint64_t bytes,
                    std::uint32_t* sink) {
  const std::uint64_t gate_up = bytes / 3 * 2 / 16 * 16;
  launch_read(stream, from, gate_up, sink);
  launch_read(stream, from + gate_up, bytes - gate_up, sink);
}

double distinct_experts(std::uint32_t rows) {
  return kExperts * (1 - std::pow(1 - double{kTopK} / kExperts, rows));
}

}  // namespace moetrace::bench
