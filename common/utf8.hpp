// Decodes and encodes UTF-8.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace moetrace {

struct CodePoint {
  // Undefined unless valid.
  uint32_t value;
  // The length of the sequence, or of the maximal invalid part; at least 1.
  size_t bytes;
  bool valid;
};

// Decodes the code point at `at`, which must be below text.size(). Overlong forms and surrogates
// are invalid.
CodePoint decode_utf8(std::string_view text, size_t at);

void append_utf8(std::string& out, uint32_t code_point);

bool is_utf8(std::string_view text);

// Replaces each maximal invalid part with U+FFFD, like Rust's from_utf8_lossy.
std::string utf8_lossy(std::string_view bytes);

}  // namespace moetrace
