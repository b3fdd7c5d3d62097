// The byte-level alphabet of GPT-2: it maps each byte to a printable character, so that text can
// hold any bytes.
#pragma once

#include <string>
#include <string_view>

namespace moetrace::engine {

// Each byte's character, as UTF-8.
std::string to_byte_level(std::string_view bytes);

// The inverse. Returns text that has a character outside the alphabet unchanged, as the tokenizers
// library does.
std::string from_byte_level(std::string_view text);

}  // namespace moetrace::engine
