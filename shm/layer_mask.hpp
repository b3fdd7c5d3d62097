// Sets of model layers, as text and as bits.
#pragma once

#include <bit>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "shm/abi.h"

namespace moetrace {

inline bool has_layer(const moetrace_layer_mask& mask, std::uint32_t layer) {
  return layer < MOETRACE_MAX_LAYERS && (mask.words[layer / 64] >> (layer % 64) & 1) != 0;
}

inline void add_layer(moetrace_layer_mask& mask, std::uint32_t layer) {
  mask.words[layer / 64] |= std::uint64_t{1} << (layer % 64);
}

inline std::uint32_t count_layers(const moetrace_layer_mask& mask) {
  int count = 0;
  for (const std::uint64_t word : mask.words) count += std::popcount(word);
  return static_cast<std::uint32_t>(count);
}

// The highest layer; -1 for the empty set.
inline int last_layer(const moetrace_layer_mask& mask) {
  for (int w = 3; w >= 0; --w) {
    if (mask.words[w] != 0) return w * 64 + 63 - std::countl_zero(mask.words[w]);
  }
  return -1;
}

inline moetrace_layer_mask intersect(const moetrace_layer_mask& a, const moetrace_layer_mask& b) {
  moetrace_layer_mask both;
  for (int w = 0; w < 4; ++w) both.words[w] = a.words[w] & b.words[w];
  return both;
}

inline moetrace_layer_mask unite(const moetrace_layer_mask& a, const moetrace_layer_mask& b) {
  moetrace_layer_mask either;
  for (int w = 0; w < 4; ++w) either.words[w] = a.words[w] | b.words[w];
  return either;
}

inline moetrace_layer_mask without(const moetrace_layer_mask& a, const moetrace_layer_mask& b) {
  moetrace_layer_mask rest;
  for (int w = 0; w < 4; ++w) rest.words[w] = a.words[w] & ~b.words[w];
  return rest;
}

inline moetrace_layer_mask first_layers(std::uint32_t count) {
  moetrace_layer_mask mask{};
  for (std::uint32_t layer = 0; layer < count; ++layer) add_layer(mask, layer);
  return mask;
}

// Parses "all", or numbers and ranges such as "0,5-7". Nothing for any other text, or if it names a
// layer >= num_layers.
std::optional<moetrace_layer_mask> parse_layers(std::string_view text, std::uint32_t num_layers);

// The inverse of parse_layers(): "0,5-7"; "" for the empty set.
std::string format_layers(const moetrace_layer_mask& mask);

}  // namespace moetrace
