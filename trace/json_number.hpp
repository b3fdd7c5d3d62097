// Numbers from their text, exactly and in the strict grammar of JSON (RFC 8259):
//   -?(0|[1-9]digits*)(.digits+)?([eE][+-]?digits+)?
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace moetrace::trace {

bool is_json_number(std::string_view token);

// Empty if the text is not a whole number, or does not fit.
std::optional<uint64_t> parse_uint64(std::string_view token);
std::optional<int64_t> parse_int64(std::string_view token);

// The float32 nearest to the decimal text, ties to even. Empty if the text is not a number, or
// beyond the range of a float32; nearer to 0 than any float32 is 0.
std::optional<float> parse_float32(std::string_view token);

}  // namespace moetrace::trace
