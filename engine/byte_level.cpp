#include "engine/byte_level.hpp"

#include <array>
#include <cstdint>

#include "common/utf8.hpp"

namespace moetrace::engine {

namespace {

// 0x100, plus one for each of the 68 bytes that are not printable Latin-1 characters.
constexpr uint32_t kAlphabetEnd = 0x144;

struct Alphabet {
  std::array<uint32_t, 256> code_point{};
  std::array<int, kAlphabetEnd> byte{};  // -1: not in the alphabet
};

// GPT-2's bytes_to_unicode(): a printable Latin-1 character stands for itself; the other bytes take
// the code points from 0x100 on, in order.
Alphabet make_alphabet() {
  Alphabet alphabet;
  alphabet.byte.fill(-1);
  uint32_t next = 0x100;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool printable =
        (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    const uint32_t point = printable ? byte : next++;
    alphabet.code_point[byte] = point;
    alphabet.byte[point] = static_cast<int>(byte);
  }
  return alphabet;
}

const Alphabet& alphabet() {
  static const Alphabet table = make_alphabet();
  return table;
}

}  // namespace

std::string to_byte_level(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) append_utf8(out, alphabet().code_point[static_cast<uint8_t>(c)]);
  return out;
}

std::string from_byte_level(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const CodePoint point = decode_utf8(text, at);
    if (!point.valid || point.value >= kAlphabetEnd || alphabet().byte[point.value] < 0)
      return std::string(text);
    out += static_cast<char>(alphabet().byte[point.value]);
    at += point.bytes;
  }
  return out;
}

}  // namespace moetrace::engine
