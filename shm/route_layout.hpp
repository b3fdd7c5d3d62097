// Where the parts of a route record lie (ABI.md: Records), for the hooks of CPU and GPU and for
// every reader. No other code computes these offsets.
//
//   byte 0       moetrace_route_head
//   byte 16      8n ids of 2 bytes
//   16 + 16n     8n weights of 4 bytes
//   16 + 48n     padding up to 64n; a writer may leave it as it is
//
// with n = ceil(top_k / 8), which is 1 to 4.
#pragma once

#include <cstddef>
#include <cstdint>

#include "shm/abi.h"

#ifdef __CUDACC__
#define MOETRACE_HOST_DEVICE __host__ __device__
#else
#define MOETRACE_HOST_DEVICE
#endif

namespace moetrace {

class RouteLayout {
 public:
  // `top_k`: 1 to MOETRACE_MAX_TOP_K.
  MOETRACE_HOST_DEVICE static constexpr RouteLayout of_top_k(std::uint32_t top_k) {
    return RouteLayout((top_k + kIdsPerUnit - 1) / kIdsPerUnit);
  }
  // `units`: 1 to kMaxUnits.
  MOETRACE_HOST_DEVICE static constexpr RouteLayout of_units(std::uint32_t units) {
    return RouteLayout(units);
  }

  // 64-byte units of a record: the n above. A kernel is compiled for each.
  MOETRACE_HOST_DEVICE constexpr std::uint32_t units() const { return units_; }
  // Bytes from one record to the next: moetrace_ring_header::route_stride.
  MOETRACE_HOST_DEVICE constexpr std::uint32_t stride() const { return kUnitBytes * units_; }
  // Ids of a record, and weights of it: top_k rounded up to a multiple of 8.
  MOETRACE_HOST_DEVICE constexpr std::uint32_t entries() const { return kIdsPerUnit * units_; }

  // Offsets from the record's first byte, and sizes, in bytes.
  MOETRACE_HOST_DEVICE constexpr std::uint32_t ids_offset() const {
    return sizeof(moetrace_route_head);
  }
  MOETRACE_HOST_DEVICE constexpr std::uint32_t ids_bytes() const {
    return entries() * sizeof(std::uint16_t);
  }
  MOETRACE_HOST_DEVICE constexpr std::uint32_t weights_offset() const {
    return ids_offset() + ids_bytes();
  }
  MOETRACE_HOST_DEVICE constexpr std::uint32_t weights_bytes() const {
    return entries() * sizeof(float);
  }
  // Everything but the padding.
  MOETRACE_HOST_DEVICE constexpr std::uint32_t used_bytes() const {
    return weights_offset() + weights_bytes();
  }

  // A GPU writes a record in 16-byte pieces, one thread each: piece 0 is the head, then come pieces
  // of 8 ids, pieces of 4 weights, and the padding.
  static constexpr std::uint32_t kPieceBytes = 16;
  static constexpr std::uint32_t kIdsPerPiece = kPieceBytes / sizeof(std::uint16_t);
  static constexpr std::uint32_t kWeightsPerPiece = kPieceBytes / sizeof(float);

  MOETRACE_HOST_DEVICE constexpr std::uint32_t pieces() const { return stride() / kPieceBytes; }
  MOETRACE_HOST_DEVICE constexpr bool is_ids_piece(std::uint32_t piece) const {
    return piece >= first_ids_piece() && piece < first_weights_piece();
  }
  MOETRACE_HOST_DEVICE constexpr bool is_weights_piece(std::uint32_t piece) const {
    return piece >= first_weights_piece() && piece < first_padding_piece();
  }
  // The entry that an ids piece, or a weights piece, begins with.
  MOETRACE_HOST_DEVICE constexpr std::uint32_t first_id(std::uint32_t ids_piece) const {
    return kIdsPerPiece * (ids_piece - first_ids_piece());
  }
  MOETRACE_HOST_DEVICE constexpr std::uint32_t first_weight(std::uint32_t weights_piece) const {
    return kWeightsPerPiece * (weights_piece - first_weights_piece());
  }

  static constexpr std::uint32_t kUnitBytes = 64;
  static constexpr std::uint32_t kIdsPerUnit = 8;
  static constexpr std::uint32_t kMaxUnits = (MOETRACE_MAX_TOP_K + kIdsPerUnit - 1) / kIdsPerUnit;

 private:
  MOETRACE_HOST_DEVICE explicit constexpr RouteLayout(std::uint32_t units) : units_(units) {}

  MOETRACE_HOST_DEVICE constexpr std::uint32_t first_ids_piece() const {
    return ids_offset() / kPieceBytes;
  }
  MOETRACE_HOST_DEVICE constexpr std::uint32_t first_weights_piece() const {
    return weights_offset() / kPieceBytes;
  }
  MOETRACE_HOST_DEVICE constexpr std::uint32_t first_padding_piece() const {
    return used_bytes() / kPieceBytes;
  }

  std::uint32_t units_;
};

}  // namespace moetrace
