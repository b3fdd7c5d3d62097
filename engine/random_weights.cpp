#include "engine/random_weights.hpp"

#include <bit>
#include <cmath>

namespace moetrace::engine {

namespace {

// The mixing function of splitmix64 (Steele, Lea, Flood 2014).
uint64_t mix(uint64_t x) {
  x += 0x9E3779B97F4A7C15ull;
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ x >> 27) * 0x94D049BB133111EBull;
  return x ^ x >> 31;
}

}  // namespace

RandomStream::RandomStream(uint64_t seed, std::string_view name) : key_(mix(seed)) {
  for (const char c : name) key_ = mix(key_ ^ static_cast<unsigned char>(c));
}

int RandomStream::at(uint64_t index) const {
  const uint64_t bits = mix(key_ ^ mix(index));
  int sum = 0;
  for (int draw = 0; draw < 4; ++draw) sum += static_cast<int>(bits >> (16 * draw) & 63);
  return sum - 126;  // minus the mean, 4 * 63 / 2
}

void append_scaled(std::string& out, Dtype dtype, int n, int exponent) {
  const auto bits = std::bit_cast<uint32_t>(std::ldexp(static_cast<float>(n), -exponent));
  // bfloat16 is the upper half of float32.
  for (size_t byte = 4 - dtype_bytes(dtype); byte < 4; ++byte)
    out += static_cast<char>(bits >> (8 * byte) & 0xFF);
}

}  // namespace moetrace::engine
