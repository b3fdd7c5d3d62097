#include "plotter/json_number.hpp"

#include <cmath>

namespace moetrace::trace {

// Needed because from_chars also takes "1.", ".5", "01" and "inf".
bool is_json_number(std::string_view token) {
  const char* at = token.data();
  const char* const end = at + token.size();
  const auto digits = [&] {
    const char* first = at;
    while (at != end && is_digit(*at)) ++at;
    return at != first;
  };
  if (at != end && *at == '-') ++at;
  const bool zero = at != end && *at == '0';
  const char* const first = at;
  if (!digits() || (zero && at - first > 1)) return false;
  if (at != end && *at == '.') {
    ++at;
    if (!digits()) return false;
  }
  if (at != end && (*at == 'e' || *at == 'E')) {
    ++at;
    if (at != end && (*at == '+' || *at == '-')) ++at;
    if (!digits()) return false;
  }
  return at == end;
}

std::optional<float> parse_float32(std::string_view token) {
  if (!is_json_number(token)) return std::nullopt;
  const char* const end = token.data() + token.size();
  float value = 0;
  const auto result = std::from_chars(token.data(), end, value);
  if (result.ec == std::errc()) return std::isfinite(value) ? std::optional(value) : std::nullopt;
  // Out of range is either too large, an error, or nearer to 0 than any float32, which is 0.
  double wide = 0;
  const auto again = std::from_chars(token.data(), end, wide);
  if (again.ec == std::errc() && std::abs(wide) < 1)
    return std::copysign(0.0F, static_cast<float>(wide));
  return std::nullopt;
}

}  // namespace moetrace::trace
