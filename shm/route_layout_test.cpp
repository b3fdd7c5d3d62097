#include "shm/route_layout.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <string>

namespace moetrace {
namespace {

// The same numbers as in ABI.md and abi.h, by hand.
constexpr RouteLayout kOne = RouteLayout::of_top_k(8);
static_assert(kOne.stride() == sizeof(moetrace_route_record));
static_assert(kOne.ids_offset() == offsetof(moetrace_route_record, expert));
static_assert(kOne.weights_offset() == offsetof(moetrace_route_record, weight));
static_assert(kOne.used_bytes() == 64, "a record of one unit has no padding");

constexpr RouteLayout kFour = RouteLayout::of_top_k(MOETRACE_MAX_TOP_K);
static_assert(kFour.units() == RouteLayout::kMaxUnits && RouteLayout::kMaxUnits == 4);
static_assert(kFour.stride() == 256 && kFour.entries() == 32);
static_assert(kFour.ids_offset() == 16 && kFour.ids_bytes() == 64);
static_assert(kFour.weights_offset() == 80 && kFour.weights_bytes() == 128);
static_assert(kFour.used_bytes() == 208, "48 bytes of padding");

static_assert(RouteLayout::of_top_k(1).units() == 1 && RouteLayout::of_top_k(9).units() == 2);
static_assert(RouteLayout::of_top_k(16).units() == 2 && RouteLayout::of_top_k(17).units() == 3);
static_assert(RouteLayout::of_units(3).stride() == RouteLayout::of_top_k(24).stride());

// What a piece of a GPU's record holds.
struct Piece {
  bool ids, weights;
  std::uint32_t offset;  // of its entries in a record, by the layout
};
Piece piece_of(const RouteLayout& layout, std::uint32_t piece) {
  const bool ids = layout.is_ids_piece(piece), weights = layout.is_weights_piece(piece);
  if (ids) return {ids, weights, layout.ids_offset() + 2 * layout.first_id(piece)};
  if (weights) return {ids, weights, layout.weights_offset() + 4 * layout.first_weight(piece)};
  return {ids, weights, 16 * piece};
}

TEST(RouteLayout, APieceLiesWhereItsEntriesDo) {
  for (std::uint32_t top_k = 1; top_k <= MOETRACE_MAX_TOP_K; ++top_k) {
    const RouteLayout layout = RouteLayout::of_top_k(top_k);
    ASSERT_EQ(layout.pieces() * RouteLayout::kPieceBytes, layout.stride());
    std::uint32_t ids = 0, weights = 0;
    for (std::uint32_t n = 0; n < layout.pieces(); ++n) {
      const Piece piece = piece_of(layout, n);
      EXPECT_EQ(piece.offset, 16 * n) << "top-k " << top_k << ", piece " << n;
      EXPECT_FALSE(piece.ids && piece.weights);
      ids += piece.ids ? RouteLayout::kIdsPerPiece : 0;
      weights += piece.weights ? RouteLayout::kWeightsPerPiece : 0;
    }
    EXPECT_FALSE(layout.is_ids_piece(0) || layout.is_weights_piece(0)) << "piece 0 is the head";
    EXPECT_EQ(ids, layout.entries());
    EXPECT_EQ(weights, layout.entries());
    EXPECT_GE(layout.entries(), top_k);
    EXPECT_LT(layout.entries(), top_k + 8);
  }
}

// A record of top-k 10, byte by byte, written by hand from ABI.md.
TEST(RouteLayout, GoldenRecordOfTwoUnits) {
  std::string golden =
      "05000000 07000000 02000000 0300 0000 "     // seq, step, row, layer, flags
      "0100 0200 0300 0400 0500 0600 0700 0800 "  // ids
      "0900 0a00 ffff ffff ffff ffff ffff ffff "  //
      "0000803f 00000040 00004040 00008040 "      // weights 1 to 4,
      "0000a040 0000c040 0000e040 00000041 "      // 5 to 8,
      "00001041 00002041 00000000 00000000 "      // 9, 10, and two past top_k
      "00000000 00000000 00000000 00000000 "      //
      "00000000 00000000 00000000 00000000";      // padding
  std::erase(golden, ' ');
  const RouteLayout layout = RouteLayout::of_top_k(10);
  std::array<unsigned char, 128> record{};
  ASSERT_EQ(layout.stride(), record.size());
  const moetrace_route_head head{5, 7, 2, 3, 0};
  std::memcpy(record.data(), &head, sizeof head);
  for (std::uint16_t k = 0; k < layout.entries(); ++k) {
    const auto id = static_cast<std::uint16_t>(k < 10 ? k + 1 : MOETRACE_NO_EXPERT);
    const float weight = k < 10 ? static_cast<float>(k + 1) : 0.0f;
    std::memcpy(record.data() + layout.ids_offset() + 2 * k, &id, sizeof id);
    std::memcpy(record.data() + layout.weights_offset() + 4 * k, &weight, sizeof weight);
  }
  std::string text;
  for (const unsigned char byte : record) {
    constexpr char kDigits[] = "0123456789abcdef";
    text += {kDigits[byte >> 4], kDigits[byte & 15]};
  }
  EXPECT_EQ(text, golden);
}

}  // namespace
}  // namespace moetrace
