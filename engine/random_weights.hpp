// Random weights by counting, in integer arithmetic only: the same on every machine, compiler and
// thread count.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/safetensors.hpp"

namespace moetrace::engine {

// Whole numbers in [-126, 126], nearly normal, with a standard deviation of 37 (four 6-bit draws: 2
// * sqrt((64^2 - 1) / 12)). A number depends on the seed, the stream's name and its index only.
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
