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

RouteText::RouteText(const LayerTable& layers)
    : layers_(layers.num_layers()), experts_(layers.num_experts()) {
  const auto fill = [](auto& snippet, const std::string& text) {
    snippet.length = static_cast<std::uint8_t>(text.copy(snippet.text, sizeof snippet.text));
  };
  for (std::uint32_t layer = 0; layer < layers_.size(); ++layer) {
    fill(layers_[layer].begin, ",\"layer\":" + std::to_string(layer) + ",\"topk_ids\":[");
    layers_[layer].top_k = layers.top_k_of(layer);
    layers_[layer].ids = layers.ids_of(layer);
  }
  for (std::uint32_t expert = 0; expert < experts_.size(); ++expert)
    fill(experts_[expert], std::to_string(expert) + ",");
}

std::string RouteText::step_text(std::uint64_t step) {
  return std::to_string(step) + ",\"seq\":";
}

void RouteText::append(LineBuffer& out, const RouteOrigin& origin,
                       std::optional<std::uint64_t> token_idx, std::uint32_t layer,
                       const std::uint16_t* ids, const float* weights, std::string_view step,
                       std::uint64_t seq) const {
  // A snippet is written as a whole block and may reach 31 bytes beyond the end.
  constexpr std::size_t kFixedText = 128;
  const Layer& of = layers_[layer];
  char* at = out.room(origin.prefix.size() + origin.suffix.size() + step.size() + 2 * kIntegerRoom +
                      kFixedText + of.top_k * (sizeof(Snippet<8>) + kFloatRoom + 1));
  at = put(at, origin.prefix);
  at = token_idx ? put_number(at, *token_idx) : put(at, "null");
  at = of.begin.put(at);
  for (std::uint32_t j = 0; j < of.top_k; ++j) {
    at = ids[j] < of.ids ? experts_[ids[j]].put(at) : put(at, "null,");
  }
  // Over the last comma.
  at = put(at - 1, "],\"topk_weights\":[");
  for (std::uint32_t j = 0; j < of.top_k; ++j) {
    // The shortest text that reads back as the same float32. JSON knows neither NaN nor infinity.
    at = std::isfinite(weights[j]) ? put_float(at, weights[j]) : put(at, "null");
    *at++ = ',';
  }
  at = put(at - 1, origin.suffix);
  at = put(at, step);
  at = put_number(at, seq);
  at = put(at, "}\n");
  out.set_end(at);
}

}  // namespace moetrace
