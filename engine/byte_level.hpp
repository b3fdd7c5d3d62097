// The byte-level alphabet of GPT-2: each byte has a printable character, so that any bytes can be
// written as text.
#pragma once

#include <string>
#include <string_view>

namespace moetrace::engine {

// Each byte's character, as UTF-8.
std::string to_byte_level(std::string_view bytes);

// The inverse. Text with a character outside the alphabet stays as it is, as in the tokenizers
// library.
std::string from_byte_level(std::string_view text);

}  // namespace moetrace::engine
