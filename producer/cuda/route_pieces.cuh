// A route record as 16-byte pieces (shm/route_layout.hpp), each built by one thread from the
// engine's tensors: the head, pieces of 8 ids, pieces of 4 weights.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>

#include "producer/cuda/kernels.hpp"
#include "shm/route_layout.hpp"

namespace moetrace::cuda {

// The quiet NaN of std::numeric_limits<float>.
constexpr std::uint32_t kUnknownWeight = 0x7FC00000u;

struct TensorPair {
  const void* ids;
  const void* weights;
};

// The ids of one piece; MOETRACE_NO_EXPERT for a missing or invalid id.
struct ExpertPiece {
  std::uint16_t expert[RouteLayout::kIdsPerPiece];
};

__device__ inline uint4 pack(const ExpertPiece& piece) {
  const auto two = [&](int n) {
    return std::uint32_t{piece.expert[n]} | std::uint32_t{piece.expert[n + 1]} << 16;
  };
  return make_uint4(two(0), two(2), two(4), two(6));
}

// Loads up to 8 ids from entry `begin` on; entries from `end` on do not exist.
template <class Id>
__device__ inline ExpertPiece load_experts(const void* ids, std::uint64_t begin, std::uint64_t end,
                                           std::uint32_t num_ids) {
  ExpertPiece piece;
#pragma unroll
  for (unsigned n = 0; n < RouteLayout::kIdsPerPiece; ++n) {
    piece.expert[n] = MOETRACE_NO_EXPERT;
    if (begin + n >= end) continue;
    const auto id = static_cast<std::uint64_t>(
        static_cast<std::int64_t>(static_cast<const Id*>(ids)[begin + n]));
    if (id < num_ids) piece.expert[n] = static_cast<std::uint16_t>(id);
  }
  return piece;
}

__device__ inline ExpertPiece load_experts(const RouteShape& shape, const void* ids,
                                           std::uint64_t begin, std::uint64_t end) {
  switch (shape.id_type) {
    case MOETRACE_INT16:
      return load_experts<std::int16_t>(ids, begin, end, shape.num_ids);
    case MOETRACE_INT64:
      return load_experts<std::int64_t>(ids, begin, end, shape.num_ids);
    case MOETRACE_UINT32:
      return load_experts<std::uint32_t>(ids, begin, end, shape.num_ids);
    default:  // the host has checked the type
      return load_experts<std::int32_t>(ids, begin, end, shape.num_ids);
  }
}

// The bits of up to 4 weights from entry `begin` on: 0 from `end` on, NaN if the weights are
// unknown.
__device__ inline uint4 load_weights(const RouteShape& shape, const void* weights,
                                     std::uint64_t begin, std::uint64_t end) {
  std::uint32_t bits[RouteLayout::kWeightsPerPiece];
#pragma unroll
  for (unsigned n = 0; n < RouteLayout::kWeightsPerPiece; ++n) {
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

// What one thread contributes to a record.
struct Piece {
  // Of an ids piece.
  ExpertPiece experts;
  // What the record gets.
  uint4 bits;
};

// Loads piece number `piece` of a record with kUnits units from the tensors' entries
// [begin, begin + top_k). Piece 0, the head, comes from elsewhere.
template <unsigned kUnits>
__device__ inline Piece load_piece(const RouteShape& shape, const TensorPair& routes,
                                   std::uint32_t piece, std::uint64_t begin) {
  constexpr RouteLayout layout = RouteLayout::of_units(kUnits);
  Piece loaded{{}, make_uint4(0, 0, 0, 0)};
  const std::uint64_t end = begin + shape.top_k;
  if (layout.is_ids_piece(piece)) {
    loaded.experts = load_experts(shape, routes.ids, begin + layout.first_id(piece), end);
    loaded.bits = pack(loaded.experts);
  } else if (layout.is_weights_piece(piece)) {
    loaded.bits = load_weights(shape, routes.weights, begin + layout.first_weight(piece), end);
  }
  return loaded;
}

// Whether load_piece_by_vectors can be used. The tensors of vLLM, SGLang and most others allow it.
inline bool fits_vectors(const RouteShape& shape, const RouteTensors* layers, std::size_t count) {
  const auto aligned = [](const void* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; };
  return shape.top_k % 4 == 0 &&
         (shape.id_type == MOETRACE_INT32 || shape.id_type == MOETRACE_UINT32) &&
         shape.has_weights && shape.weight_type == MOETRACE_FLOAT32 &&
         std::all_of(layers, layers + count, [&](const RouteTensors& of) {
           return aligned(of.ids) && aligned(of.weights);
         });
}

// As load_piece, with 16-byte loads that all threads of a warp issue together: ids and weights take
// one trip to memory together.
template <unsigned kUnits>
__device__ inline Piece load_piece_by_vectors(const RouteShape& shape, const TensorPair& routes,
                                              std::uint32_t piece, std::uint64_t begin) {
  constexpr RouteLayout layout = RouteLayout::of_units(kUnits);
  const bool is_ids = layout.is_ids_piece(piece);
  const std::uint32_t entry = is_ids ? layout.first_id(piece) : layout.first_weight(piece);
  const auto* from =
      static_cast<const uint4*>(is_ids ? routes.ids : routes.weights) + (begin + entry) / 4;
  const bool has_first = (is_ids || layout.is_weights_piece(piece)) && entry < shape.top_k;
  const bool has_second = is_ids && entry + 4 < shape.top_k;
  const uint4 first = has_first ? from[0] : make_uint4(0, 0, 0, 0);
  const uint4 none = make_uint4(~0u, ~0u, ~0u, ~0u);
  const uint4 second = has_second ? from[1] : none;
  if (!is_ids) return {{}, first};
  const auto expert = [&](std::uint32_t id) {
    return static_cast<std::uint16_t>(id < shape.num_ids ? id : MOETRACE_NO_EXPERT);
  };
  const uint4 low = has_first ? first : none;
  Piece loaded{{{expert(low.x), expert(low.y), expert(low.z), expert(low.w), expert(second.x),
                 expert(second.y), expert(second.z), expert(second.w)}},
               {}};
  loaded.bits = pack(loaded.experts);
  return loaded;
}

}  // namespace moetrace::cuda
