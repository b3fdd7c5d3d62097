// Numbers from their text, exactly and in the strict grammar of JSON.
#pragma once

#include <charconv>
#include <cstdint>
#include <optional>
#include <string_view>

namespace moetrace::trace {

inline bool is_digit(char c) {
  return static_cast<unsigned char>(c - '0') < 10;
}

// T is an integer type. Empty if the text is no whole number, or does not fit.
template <class T>
std::optional<T> parse_whole(std::string_view token) {
  T value = 0;
  const char* end = token.data() + token.size();
  const auto [stop, error] = std::from_chars(token.data(), end, value);
  const size_t sign = !token.empty() && token[0] == '-' ? 1 : 0;
  const bool leading_zero = token.size() > sign + 1 && token[sign] == '0';
  if (error != std::errc() || stop != end || leading_zero) return std::nullopt;
  return value;
}

// RFC 8259: -?(0|[1-9]digits*)(.digits+)?([eE][+-]?digits+)?
bool is_json_number(std::string_view token);

// The float32 nearest to the decimal text. Going through a double would round twice and can end one
// float32 off. Empty if the text is no number, or is beyond the range of a float32.
std::optional<float> parse_float32(std::string_view token);

}  // namespace moetrace::trace
