// A route record as 16-byte pieces, made by one thread each from the engine's tensors: the head,
// then 8 ids a piece, then 4 weights a piece (ABI.md: Records).
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "producer/cuda/kernels.hpp"

namespace moetrace::cuda {

// The ids of one piece; MOETRACE_NO_EXPERT for what is none.
struct ExpertPiece {
  std::uint16_t expert[8];
};

__device__ inline uint4 pack(const ExpertPiece& piece) {
  const auto two = [&](int n) {
    return std::uint32_t{piece.expert[n]} | std::uint32_t{piece.expert[n + 1]} << 16;
  };
  return make_uint4(two(0), two(2), two(4), two(6));
}

// Up to 8 ids from entry `begin` on, of which only those below `end` exist.
template <class Id>
__device__ inline ExpertPiece load_experts(const void* ids, std::uint64_t begin, std::uint64_t end,
                                           std::uint32_t num_experts) {
  ExpertPiece piece;
#pragma unroll
  for (int n = 0; n < 8; ++n) {
    piece.expert[n] = MOETRACE_NO_EXPERT;
    if (begin + n >= end) continue;
    const auto id = static_cast<std::uint64_t>(
        static_cast<std::int64_t>(static_cast<const Id*>(ids)[begin + n]));
    if (id < num_experts) piece.expert[n] = static_cast<std::uint16_t>(id);
  }
  return piece;
}

__device__ inline ExpertPiece load_experts(const RouteTensors& routes, std::uint64_t begin,
                                           std::uint64_t end, std::uint32_t num_experts) {
  switch (routes.id_type) {
    case MOETRACE_INT16:
      return load_experts<std::int16_t>(routes.ids, begin, end, num_experts);
    case MOETRACE_INT64:
      return load_experts<std::int64_t>(routes.ids, begin, end, num_experts);
    case MOETRACE_UINT32:
      return load_experts<std::uint32_t>(routes.ids, begin, end, num_experts);
    default:  // the launch has looked: there is no other
      return load_experts<std::int32_t>(routes.ids, begin, end, num_experts);
  }
}

// Bits of up to 4 weights from entry `begin` on; 0 from `end` on, NaN where none are known.
__device__ inline uint4 load_weights(const RouteTensors& routes, std::uint64_t begin,
                                     std::uint64_t end) {
  std::uint32_t bits[4];
#pragma unroll
  for (int n = 0; n < 4; ++n) {
    bits[n] = 0;
    if (begin + n >= end) continue;
    if (routes.weights == nullptr) {
      bits[n] = 0x7FC00000u;  // the quiet NaN that std::numeric_limits gives
    } else if (routes.weight_type == MOETRACE_FLOAT32) {
      bits[n] = static_cast<const std::uint32_t*>(routes.weights)[begin + n];
    } else if (routes.weight_type == MOETRACE_BFLOAT16) {
      bits[n] = std::uint32_t{static_cast<const std::uint16_t*>(routes.weights)[begin + n]} << 16;
    } else {
      bits[n] = __float_as_uint(
          __half2float(static_cast<const __half*>(routes.weights)[begin + n]));
    }
  }
  return make_uint4(bits[0], bits[1], bits[2], bits[3]);
}

}  // namespace moetrace::cuda
