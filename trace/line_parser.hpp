// Turns the text of one line into one of the structs of trace_lines.hpp.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "trace/errors.hpp"
#include "trace/trace_lines.hpp"

namespace moetrace::trace {

struct LayerLimits {
  uint32_t top_k = 0;  // the length of every list of its routes; 0: that of the file
  uint32_t ids = 0;    // its ids are below; 0: as those of the file
};

struct Limits {
  uint32_t top_k;        // of the file, the largest; 0: not known
  uint32_t num_experts;  // ids are below, in every layer
  uint32_t num_layers;   // layers are below
  // A plain log: of a route only layer and ids must be there, and weights may be NaN and Infinity,
  // as Python writes them.
  bool plain;
  bool experts_given = false;  // num_experts is the user's word, which the file does not have
  std::array<LayerLimits, kMaxLayers> layers{};

  [[nodiscard]] uint32_t top_k_of(uint16_t layer) const {
    return layers[layer].top_k != 0 ? layers[layer].top_k : top_k;
  }
  [[nodiscard]] uint32_t ids_of(uint16_t layer) const {
    return layers[layer].ids != 0 ? layers[layer].ids : num_experts;
  }
};

class LineParser {
 public:
  explicit LineParser(const Limits& limits);
  LineParser(LineParser&&) noexcept;
  ~LineParser();

  void set_limits(const Limits& limits);

  // What `content` points to is valid until the next call, and as long as `text` is. False: see
  // error().
  bool parse(std::string_view text, Content& content);

  // "at_seq" of the last line that was parsed.
  [[nodiscard]] std::optional<uint64_t> at_seq() const;

  // kBadJson, kBadLine or kTooFewExperts; the message is the "why" alone.
  [[nodiscard]] const Error& error() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace moetrace::trace
