// Oracle: the processor's own conversion.
#include "daemon/collector/float16.hpp"

#include <gtest/gtest.h>
#include <immintrin.h>

#include <cmath>
#include <random>

namespace moetrace {
namespace {

__attribute__((target("f16c"))) std::uint16_t by_processor(float number) {
  return static_cast<std::uint16_t>(
      _mm_extract_epi16(_mm_cvtps_ph(_mm_set_ss(number), _MM_FROUND_TO_NEAREST_INT), 0));
}
__attribute__((target("f16c"))) float float_of(std::uint16_t half) {
  return _mm_cvtss_f32(_mm_cvtph_ps(_mm_set1_epi16(static_cast<short>(half))));
}

class Float16 : public testing::Test {
 protected:
  void SetUp() override {
    if (!__builtin_cpu_supports("f16c")) GTEST_SKIP() << "this processor has no half precision";
  }
};

TEST_F(Float16, EveryHalfAndTheNumbersAroundTheMiddleOfTwo) {
  for (std::uint32_t half = 0; half < 0x7C00; ++half) {
    const float exact = float_of(static_cast<std::uint16_t>(half));
    const float next = half + 1 < 0x7C00 ? float_of(static_cast<std::uint16_t>(half + 1)) : 65536;
    const float middle = (exact + next) / 2;
    for (const float number :
         {exact, std::nextafterf(middle, 0), middle, std::nextafterf(middle, 70000)}) {
      for (const float signed_number : {number, -number}) {
        ASSERT_EQ(fits_half(signed_number), std::isfinite(float_of(by_processor(signed_number))));
        if (fits_half(signed_number)) {
          ASSERT_EQ(half_bits(signed_number), by_processor(signed_number)) << signed_number;
        }
      }
    }
  }
}

TEST_F(Float16, AnyNumber) {
  std::mt19937 random(7);
  for (int n = 0; n < 2'000'000; ++n) {
    const float number = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
    ASSERT_EQ(is_finite(number), std::isfinite(number));
    const bool finite = std::isfinite(number) && std::isfinite(float_of(by_processor(number)));
    ASSERT_EQ(fits_half(number), finite) << number;
    if (finite) {
      ASSERT_EQ(half_bits(number), by_processor(number)) << number;
    }
  }
}

}  // namespace
}  // namespace moetrace
