// Oracle: every half as a double, by the definition of the format, and the nearest of them.
#include "daemon/collector/float16.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <random>

namespace moetrace {
namespace {

constexpr std::uint32_t kHalves = 0x7C00;  // finite, not negative; the next one is infinity

// One more than the largest half: where it would lie, halves end.
std::array<double, kHalves + 1> all_halves() {
  std::array<double, kHalves + 1> halves{};
  for (std::uint32_t bits = 0; bits <= kHalves; ++bits) {
    const int exponent = static_cast<int>(bits >> 10);
    const double fraction = bits & 0x3FF;
    halves[bits] =
        exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  }
  return halves;
}
const std::array<double, kHalves + 1> kAll = all_halves();

// kHalves: infinity.
std::uint32_t nearest(double magnitude) {
  const auto above = std::lower_bound(kAll.begin(), kAll.end(), magnitude);
  if (above == kAll.end()) return kHalves;
  const auto bits = static_cast<std::uint32_t>(above - kAll.begin());
  if (bits == 0 || kAll[bits] == magnitude) return bits;
  const double down = magnitude - kAll[bits - 1];
  const double up = kAll[bits] - magnitude;
  if (down != up) return down < up ? bits - 1 : bits;
  return bits % 2 == 0 ? bits : bits - 1;
}

void expect_nearest(float number) {
  const std::uint32_t bits = nearest(std::fabs(static_cast<double>(number)));
  ASSERT_EQ(fits_half(number), bits < kHalves) << number;
  if (bits == kHalves) return;
  ASSERT_EQ(half_bits(number), bits | (std::signbit(number) ? 0x8000 : 0)) << number;
}

TEST(Float16, EveryHalfAndTheNumbersAroundTheMiddleOfTwo) {
  for (std::uint32_t bits = 0; bits < kHalves; ++bits) {
    const auto exact = static_cast<float>(kAll[bits]);
    const auto middle = static_cast<float>((kAll[bits] + kAll[bits + 1]) / 2);
    for (const float number :
         {exact, std::nextafterf(middle, 0), middle, std::nextafterf(middle, 1e6F)}) {
      expect_nearest(number);
      expect_nearest(-number);
    }
  }
}

TEST(Float16, AnyNumber) {
  std::mt19937 random(7);
  for (int n = 0; n < 500'000; ++n) {
    const float number = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
    ASSERT_EQ(is_finite(number), std::isfinite(number));
    if (is_finite(number)) {
      expect_nearest(number);
    } else {
      ASSERT_FALSE(fits_half(number));
    }
  }
}

}  // namespace
}  // namespace moetrace
