// float32 to its shortest decimal text: the text of std::to_chars, written in half the time for
// gate weights.
#pragma once

#include <fmt/format.h>

#include <bit>
#include <charconv>
#include <cstdint>
#include <cstring>

namespace moetrace {

// {fmt} 9.1 (Debian 12) has Dragonbox in fmt::detail alone, which may change in any release. Its
// public fmt::format_to("{}") takes 49 ns a weight, this takes 30 ns, std::to_chars 58 ns: a row of
// four weights would take 20 % longer. Any other {fmt} falls back to std::to_chars; FloatText
// compares the two texts.
#if FMT_VERSION / 100 == 901
#define MOETRACE_DRAGONBOX 1
#else
#define MOETRACE_DRAGONBOX 0
#endif

// The longest is "-1.17549435e-38".
constexpr std::size_t kFloatRoom = 16;

// Writes a finite `value` to the kFloatRoom bytes at `at`; returns the end. The Dragonbox algorithm
// (J. Jeon) finds the shortest digits. The notation is that of std::to_chars: scientific only if it
// is shorter.
inline char* put_float(char* at, float value) {
#if MOETRACE_DRAGONBOX
  // A typical gate weight: positive, from 2^-13 to below 1. Positive floats order like their bits.
  constexpr std::uint32_t kSmallest = std::bit_cast<std::uint32_t>(0x1p-13f);
  constexpr std::uint32_t kOne = std::bit_cast<std::uint32_t>(1.0f);
  if (std::bit_cast<std::uint32_t>(value) - kSmallest < kOne - kSmallest) {
    // value = significand * 10^exponent
    const auto decimal = fmt::detail::dragonbox::to_decimal(value);
    const int count = fmt::detail::count_digits(decimal.significand);
    const int zeros = -decimal.exponent - count;
    // Fixed notation takes 2 + zeros + count characters, scientific count + 4, and a point if
    // count > 1.
    if (zeros <= 3 - (count == 1 ? 1 : 0)) {
      std::memcpy(at, "0.000", 5);
      return fmt::detail::format_decimal(at + 2 + zeros, decimal.significand, count).end;
    }
  }
#endif
  return std::to_chars(at, at + kFloatRoom, value).ptr;
}

}  // namespace moetrace
