// Random weights from a counter, in integer arithmetic: the same on every machine, with every
// compiler and any number of threads.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/safetensors.hpp"

namespace moetrace::engine {

// Integers in [-126, 126], nearly normal: the sum of four 6-bit draws, so the standard deviation is
// 2 * sqrt((64^2 - 1) / 12) = 37. A number depends only on the seed, the stream's name and its
// index.
class RandomStream {
 public:
  RandomStream(uint64_t seed, std::string_view name);
  int at(uint64_t index) const;

 private:
  uint64_t key_;
};

// n * 2^-exponent, little-endian, in float32 or bfloat16. Exact in both for |n| < 256, as bfloat16
// has 8 significant bits.
void append_scaled(std::string& out, Dtype dtype, int n, int exponent);

}  // namespace moetrace::engine
