// UTF-8 in and out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace moetrace {

struct CodePoint {
  uint32_t value;  // meaningless if !valid
  size_t bytes;    // at least 1: of the sequence, or of the maximal invalid part
  bool valid;
};

// Decodes the code point at `at` (below text.size()); overlong forms and surrogates are invalid.
CodePoint decode_utf8(std::string_view text, size_t at);

void append_utf8(std::string& out, uint32_t code_point);

bool is_utf8(std::string_view text);

// Each maximal invalid part becomes U+FFFD, as Rust's from_utf8_lossy does.
std::string utf8_lossy(std::string_view bytes);

}  // namespace moetrace
