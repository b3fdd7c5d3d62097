// Writes route lines, which are most of a trace. Text that repeats is made once.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/collector/lines.hpp"

namespace moetrace {

class RouteText {
 public:
  explicit RouteText(const LayerTable& layers);

  // What the lines of a step share: 17,"seq":
  static std::string step_text(std::uint64_t step);

  // Appends one line. `ids` and `weights`: as many as the layer's top_k, from the record; an id
  // outside the layer's range becomes null. `layer`: below num_layers. `token_idx`: nothing if
  // unknown. `step`: from step_text(). Several threads may call it at once.
  void append(LineBuffer& out, const RouteOrigin& origin, std::optional<std::uint64_t> token_idx,
              std::uint32_t layer, const std::uint16_t* ids, const float* weights,
              std::string_view step, std::uint64_t seq) const;

 private:
  // A short text. It is copied as a block of fixed size: one or two move instructions.
  template <std::size_t N>
  struct Snippet {
    char text[N - 1];
    std::uint8_t length;
    char* put(char* at) const;
  };

  struct Layer {
    // ,"layer":5,"topk_ids":[
    Snippet<32> begin;
    std::uint32_t top_k;
    std::uint32_t ids;
  };

  std::vector<Layer> layers_;
  // 43,
  std::vector<Snippet<8>> experts_;
};

}  // namespace moetrace
