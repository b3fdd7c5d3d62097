#include "daemon/collector/route_text.hpp"

#include <cmath>
#include <cstring>

#include "daemon/collector/float_text.hpp"

namespace moetrace {
namespace {

// Digits of the largest uint64.
constexpr std::size_t kIntegerRoom = 20;

char* put(char* at, std::string_view text) {
  std::memcpy(at, text.data(), text.size());
  return at + text.size();
}

char* put_number(char* at, std::uint64_t number) {
  return std::to_chars(at, at + kIntegerRoom, number).ptr;
}

}  // namespace

template <std::size_t N>
char* RouteText::Snippet<N>::put(char* at) const {
  std::memcpy(at, text, N - 1);
  return at + length;
}

RouteText::RouteText(std::uint32_t num_layers, std::uint32_t num_experts, std::uint32_t top_k)
    : top_k_(top_k), layers_(num_layers), experts_(num_experts) {
  for (std::uint32_t layer = 0; layer < num_layers; ++layer) {
    const std::string text = ",\"layer\":" + std::to_string(layer) + ",\"topk_ids\":[";
    layers_[layer].length =
        static_cast<std::uint8_t>(text.copy(layers_[layer].text, sizeof layers_[layer].text));
  }
  for (std::uint32_t expert = 0; expert < num_experts; ++expert) {
    const std::string text = std::to_string(expert) + ",";
    experts_[expert].length =
        static_cast<std::uint8_t>(text.copy(experts_[expert].text, sizeof experts_[expert].text));
  }
  enter(0);
}

void RouteText::enter(std::uint64_t step) {
  step_ = std::to_string(step) + ",\"seq\":";
}

void RouteText::append(LineBuffer& out, const RouteOrigin& origin,
                       std::optional<std::uint64_t> token_idx, std::uint32_t layer,
                       const std::uint16_t* ids, const float* weights, std::uint64_t seq) const {
  // A snippet is written as a whole block and may reach 31 bytes beyond the end.
  constexpr std::size_t kFixedText = 128;
  char* at =
      out.room(origin.prefix.size() + origin.suffix.size() + step_.size() + 2 * kIntegerRoom +
               kFixedText + top_k_ * (sizeof(Snippet<8>) + kFloatRoom + 1));
  at = put(at, origin.prefix);
  at = token_idx ? put_number(at, *token_idx) : put(at, "null");
  at = layers_[layer].put(at);
  for (std::uint32_t j = 0; j < top_k_; ++j) {
    at = ids[j] < experts_.size() ? experts_[ids[j]].put(at) : put(at, "null,");
  }
  // Over the last comma.
  at = put(at - 1, "],\"topk_weights\":[");
  for (std::uint32_t j = 0; j < top_k_; ++j) {
    // The shortest text that reads back as the same float32. JSON knows neither NaN nor infinity.
    at = std::isfinite(weights[j]) ? put_float(at, weights[j]) : put(at, "null");
    *at++ = ',';
  }
  at = put(at - 1, origin.suffix);
  at = put(at, step_);
  at = put_number(at, seq);
  at = put(at, "}\n");
  out.set_end(at);
}

}  // namespace moetrace
