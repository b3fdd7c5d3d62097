#include "shm/layer_mask.hpp"

#include <charconv>

namespace moetrace {
namespace {

// Takes a number off the front of `text`.
std::optional<std::uint32_t> take_number(std::string_view& text) {
  std::uint32_t value = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failed != std::errc{}) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return value;
}

}  // namespace

std::optional<moetrace_layer_mask> parse_layers(std::string_view text, std::uint32_t num_layers) {
  if (text == "all") return first_layers(num_layers);
  moetrace_layer_mask mask{};
  while (true) {
    const auto first = take_number(text);
    if (!first) return std::nullopt;
    std::uint32_t last = *first;
    if (text.starts_with('-')) {
      text.remove_prefix(1);
      const auto end = take_number(text);
      if (!end) return std::nullopt;
      last = *end;
    }
    if (last < *first || last >= num_layers || last >= MOETRACE_MAX_LAYERS) return std::nullopt;
    for (std::uint32_t layer = *first; layer <= last; ++layer) add_layer(mask, layer);
    if (text.empty()) return mask;
    if (!text.starts_with(',')) return std::nullopt;
    text.remove_prefix(1);
  }
}

std::string format_layers(const moetrace_layer_mask& mask) {
  std::string text;
  for (std::uint32_t layer = 0; layer < MOETRACE_MAX_LAYERS; ++layer) {
    if (!has_layer(mask, layer)) continue;
    std::uint32_t last = layer;
    while (has_layer(mask, last + 1)) ++last;
    if (!text.empty()) text += ',';
    text += std::to_string(layer);
    if (last > layer) text += '-' + std::to_string(last);
    layer = last;
  }
  return text;
}

}  // namespace moetrace
