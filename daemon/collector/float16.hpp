// float32 to IEEE 754 half precision, rounded to the nearest, ties to even. Written without
// branches on the value, so that a loop over it becomes vector instructions.
#pragma once

#include <bit>
#include <cstdint>

namespace moetrace {

inline constexpr std::uint32_t kFloatMagnitude = 0x7FFFFFFF;

inline bool is_finite(float number) {
  return (std::bit_cast<std::uint32_t>(number) & kFloatMagnitude) < 0x7F800000;
}

// Whether the number rounds to a finite half: its magnitude is below 65520.
inline bool fits_half(float number) {
  return (std::bit_cast<std::uint32_t>(number) & kFloatMagnitude) < 0x477FF000;
}

// The bits of the nearest half. Only for numbers that fit.
inline std::uint16_t half_bits(float number) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(number);
  const std::uint32_t magnitude = bits & kFloatMagnitude;
  const std::uint32_t sign = (bits ^ magnitude) >> 16;
  // Below 2^-14 a half counts in steps of 2^-24. So does a float32 in [0.5, 1), so this addition
  // rounds, and the low bits of the sum are the half's.
  constexpr std::uint32_t kHalf = 0x3F000000;
  const float sum = std::bit_cast<float>(magnitude) + 0.5f;
  const std::uint32_t subnormal = std::bit_cast<std::uint32_t>(sum) - kHalf;
  // Otherwise: the exponent's bias from 127 to 15, and 13 bits of the fraction rounded away.
  const std::uint32_t odd = (magnitude >> 13) & 1;
  const std::uint32_t normal = (magnitude - ((127u - 15u) << 23) + 0xFFF + odd) >> 13;
  return static_cast<std::uint16_t>(sign | (magnitude < 0x38800000 ? subnormal : normal));
}

}  // namespace moetrace
