#include "trace/json_number.hpp"

#include <bit>
#include <charconv>
#include <cmath>
#include <limits>

namespace moetrace::trace {
namespace {

// A number's text taken apart: digits x 10^exponent, if they fit.
struct Decimal {
  uint64_t digits = 0;
  int64_t exponent = 0;
  bool negative = false;
  bool exact = true;  // false: more digits than fit, or a huge exponent
};

inline bool is_digit(char c) {
  return static_cast<unsigned char>(c - '0') < 10;
}

// Takes the digits at `at`; false if no digit is there. 19 digits always fit a uint64.
inline bool take_digits(const char*& at, const char* end, uint64_t& digits) {
  const char* first = at;
  while (at != end && is_digit(*at)) digits = 10 * digits + static_cast<uint64_t>(*at++ - '0');
  return at != first;
}

// Empty if the text is not a JSON number.
inline std::optional<Decimal> take_apart(std::string_view token) {
  constexpr int64_t kMostDigits = 19;
  const char* at = token.data();
  const char* const end = at + token.size();
  Decimal number;
  if (at != end && *at == '-') {
    number.negative = true;
    ++at;
  }
  const char* const first = at;
  if (!take_digits(at, end, number.digits)) return std::nullopt;
  if (*first == '0' && at - first > 1) return std::nullopt;
  int64_t length = at - first;
  if (at != end && *at == '.') {
    const char* const point = at++;
    if (!take_digits(at, end, number.digits)) return std::nullopt;
    number.exponent = -(at - point - 1);
    length += at - point - 1;
  }
  number.exact = length <= kMostDigits;
  if (at != end && (*at == 'e' || *at == 'E')) {
    ++at;
    const bool below = at != end && *at == '-';
    if (at != end && (*at == '+' || *at == '-')) ++at;
    const char* const power = at;
    uint64_t exponent = 0;
    if (!take_digits(at, end, exponent)) return std::nullopt;
    if (at - power > 4) number.exact = false;
    if (number.exact) {
      number.exponent += below ? -static_cast<int64_t>(exponent) : static_cast<int64_t>(exponent);
    }
  }
  if (at != end) return std::nullopt;
  return number;
}

// The common case without a library call. Digits below 2^53 and a power of ten up to 10^22 are both
// exact doubles, so one multiplication or division gives the nearest double. Rounding that to a
// float32 is right unless the double is the very middle of two float32, when the text may have been
// on either side of it (or beyond the normal range).
inline std::optional<float> fast_float32(const Decimal& number) {
  constexpr double kPowers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
  if (!number.exact || number.digits >> 53 != 0) return std::nullopt;
  if (number.exponent < -22 || number.exponent > 22) return std::nullopt;
  const auto digits = static_cast<double>(number.digits);
  const double value =
      number.exponent < 0 ? digits / kPowers[-number.exponent] : digits * kPowers[number.exponent];
  // A double has 29 bits of fraction more than a float32; the middle is a one and 28 zeros.
  constexpr uint64_t kBelowFloat32 = (uint64_t{1} << 29) - 1;
  constexpr uint64_t kMiddle = uint64_t{1} << 28;
  if ((std::bit_cast<uint64_t>(value) & kBelowFloat32) == kMiddle) return std::nullopt;
  const bool normal = value >= std::numeric_limits<float>::min() && value < 1e38;
  if (!normal && value != 0) return std::nullopt;
  return static_cast<float>(number.negative ? -value : value);
}

template <class T>
std::optional<T> whole_by_library(std::string_view token) {
  T value = 0;
  const char* const end = token.data() + token.size();
  const auto [stop, error] = std::from_chars(token.data(), end, value);
  if (error != std::errc() || stop != end) return std::nullopt;
  return value;
}

}  // namespace

bool is_json_number(std::string_view token) {
  return take_apart(token).has_value();
}

std::optional<uint64_t> parse_uint64(std::string_view token) {
  const char* at = token.data();
  const char* const end = at + token.size();
  uint64_t value = 0;
  if (!take_digits(at, end, value) || at != end) return std::nullopt;
  if (token.size() > 1 && token.front() == '0') return std::nullopt;
  return token.size() <= 19 ? std::optional(value) : whole_by_library<uint64_t>(token);
}

std::optional<int64_t> parse_int64(std::string_view token) {
  const auto number = take_apart(token);
  if (!number || token.find_first_of(".eE") != std::string_view::npos) return std::nullopt;
  return whole_by_library<int64_t>(token);
}

std::optional<float> parse_float32(std::string_view token) {
  const auto number = take_apart(token);
  if (!number) return std::nullopt;
  if (const auto fast = fast_float32(*number)) return fast;
  const char* const end = token.data() + token.size();
  float value = 0;
  const auto result = std::from_chars(token.data(), end, value);
  if (result.ec == std::errc()) return std::isfinite(value) ? std::optional(value) : std::nullopt;
  // Out of range is either too large, an error, or nearer to 0 than any float32, which is 0.
  double wide = 0;
  const auto again = std::from_chars(token.data(), end, wide);
  const bool small = again.ec == std::errc() && std::abs(wide) < 1;
  return small ? std::optional(number->negative ? -0.0F : 0.0F) : std::nullopt;
}

}  // namespace moetrace::trace
