// Record n of the stress test: the writer fills every field, and the reader checks it, as a
// function of n.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace moetrace::stress {

// SplitMix64: neighbouring numbers share no pattern, so a mixed-up record can't match by chance.
inline std::uint64_t mix(std::uint64_t n) {
  n += 0x9E3779B97F4A7C15u;
  n = (n ^ n >> 30) * 0xBF58476D1CE4E5B9u;
  n = (n ^ n >> 27) * 0x94D049BB133111EBu;
  return n ^ n >> 31;
}

inline std::uint32_t step_of(std::uint64_t n) {
  return static_cast<std::uint32_t>(mix(n));
}

// Word w of the slot, w >= 1: row, layer, ids and weights.
inline std::uint64_t word_of(std::uint64_t n, std::size_t w) {
  return mix(n * 64 + w);
}

inline void fill(std::byte* slot, std::size_t stride, std::uint64_t n) {
  for (std::size_t w = 1; w < stride / 8; ++w) {
    const std::uint64_t word = word_of(n, w);
    std::memcpy(slot + 8 * w, &word, 8);
  }
}

inline bool matches(const std::byte* slot, std::size_t stride, std::uint64_t n) {
  for (std::size_t w = 1; w < stride / 8; ++w) {
    std::uint64_t word = 0;
    std::memcpy(&word, slot + 8 * w, 8);
    if (word != word_of(n, w)) return false;
  }
  return true;
}

}  // namespace moetrace::stress
