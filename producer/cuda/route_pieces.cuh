// A route record as 16-byte pieces, made by one thread each from the engine's tensors: the head,
// then 8 ids a piece, then 4 weights a piece (ABI.md: Records).
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>

#include "producer/cuda/kernels.hpp"
#include "shm/route_layout.hpp"

namespace moetrace::cuda {

constexpr std::uint32_t kUnknownWeight = 0x7FC00000u;  // std::numeric_limits' quiet NaN

struct TensorPair {
  const void* ids;
  const void* weights;
};

// The ids of one piece; MOETRACE_NO_EXPERT for what is none.
struct ExpertPiece {
  std::uint16_t expert[RouteLayout::kIdsPerPiece];
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

__device__ inline ExpertPiece load_experts(const RouteShape& shape, const void* ids,
                                           std::uint64_t begin, std::uint64_t end,
                                           std::uint32_t num_experts) {
  switch (shape.id_type) {
    case MOETRACE_INT16:
      return load_experts<std::int16_t>(ids, begin, end, num_experts);
    case MOETRACE_INT64:
      return load_experts<std::int64_t>(ids, begin, end, num_experts);
    case MOETRACE_UINT32:
      return load_experts<std::uint32_t>(ids, begin, end, num_experts);
    default:  // the launch has looked: there is no other
      return load_experts<std::int32_t>(ids, begin, end, num_experts);
  }
}

// Bits of up to 4 weights from entry `begin` on; 0 from `end` on, NaN where none are known.
__device__ inline uint4 load_weights(const RouteShape& shape, const void* weights,
                                     std::uint64_t begin, std::uint64_t end) {
  std::uint32_t bits[4];
#pragma unroll
  for (int n = 0; n < 4; ++n) {
    bits[n] = 0;
    if (begin + n >= end) continue;
    if (!shape.has_weights) {
      bits[n] = kUnknownWeight;
    } else if (shape.weight_type == MOETRACE_FLOAT32) {
      bits[n] = static_cast<const std::uint32_t*>(weights)[begin + n];
    } else if (shape.weight_type == MOETRACE_BFLOAT16) {
      bits[n] = std::uint32_t{static_cast<const std::uint16_t*>(weights)[begin + n]} << 16;
    } else {
      bits[n] = __float_as_uint(__half2float(static_cast<const __half*>(weights)[begin + n]));
    }
  }
  return make_uint4(bits[0], bits[1], bits[2], bits[3]);
}

// What one thread contributes to a record: the ids of an id piece, or the bits of a weight piece.
struct Piece {
  ExpertPiece experts;
  uint4 bits;
};

// Piece number `piece` (0 is the head, which is not loaded) of a record of 64 * kUnits bytes, whose
// entries are [begin, begin + top_k).
template <unsigned kUnits>
__device__ inline Piece load_piece(const RouteShape& shape, const TensorPair& routes,
                                   std::uint32_t piece, std::uint64_t begin, const HookView& view) {
  constexpr RouteLayout layout = RouteLayout::of_units(kUnits);
  Piece loaded{{}, make_uint4(0, 0, 0, 0)};
  const std::uint64_t end = begin + view.top_k;
  if (layout.is_ids_piece(piece)) {
    loaded.experts =
        load_experts(shape, routes.ids, begin + layout.first_id(piece), end, view.num_experts);
    loaded.bits = pack(loaded.experts);
  } else if (layout.is_weights_piece(piece)) {
    loaded.bits = load_weights(shape, routes.weights, begin + layout.first_weight(piece), end);
  }
  return loaded;
}

// Whether load_piece_by_vectors can do it: what vLLM, SGLang and most others have.
inline bool fits_vectors(const RouteShape& shape, const RouteTensors* layers, std::size_t count,
                         std::uint32_t top_k) {
  const auto aligned = [](const void* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; };
  return top_k % 4 == 0 && (shape.id_type == MOETRACE_INT32 || shape.id_type == MOETRACE_UINT32) &&
         shape.has_weights && shape.weight_type == MOETRACE_FLOAT32 &&
         std::all_of(layers, layers + count, [&](const RouteTensors& of) {
           return aligned(of.ids) && aligned(of.weights);
         });
}

// The same with 16-byte loads that all threads of a warp issue together: ids and weights cost one
// trip to memory and not one each.
template <unsigned kUnits>
__device__ inline Piece load_piece_by_vectors(const TensorPair& routes, std::uint32_t piece,
                                              std::uint64_t begin, const HookView& view) {
  constexpr RouteLayout layout = RouteLayout::of_units(kUnits);
  const bool is_ids = layout.is_ids_piece(piece);
  const std::uint32_t entry = is_ids ? layout.first_id(piece) : layout.first_weight(piece);
  const auto* from =
      static_cast<const uint4*>(is_ids ? routes.ids : routes.weights) + (begin + entry) / 4;
  const bool has_first = (is_ids || layout.is_weights_piece(piece)) && entry < view.top_k;
  const bool has_second = is_ids && entry + 4 < view.top_k;
  const uint4 first = has_first ? from[0] : make_uint4(0, 0, 0, 0);
  const uint4 none = make_uint4(~0u, ~0u, ~0u, ~0u);
  const uint4 second = has_second ? from[1] : none;
  if (!is_ids) return {{}, first};
  const auto expert = [&](std::uint32_t id) {
    return static_cast<std::uint16_t>(id < view.num_experts ? id : MOETRACE_NO_EXPERT);
  };
  const uint4 low = has_first ? first : none;
  Piece loaded{{{expert(low.x), expert(low.y), expert(low.z), expert(low.w), expert(second.x),
                 expert(second.y), expert(second.z), expert(second.w)}},
               {}};
  loaded.bits = pack(loaded.experts);
  return loaded;
}

}  // namespace moetrace::cuda
