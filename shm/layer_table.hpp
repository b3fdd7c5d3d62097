// What a segment says of each layer: ABI.md, "Layer table".
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "shm/abi.h"

namespace moetrace {

class LayerTable {
 public:
  // All layers have `top_k` and `num_experts`; nothing else is known of them.
  LayerTable(std::uint32_t num_layers, std::uint32_t num_experts, std::uint32_t top_k)
      : num_experts_(num_experts), top_k_(top_k), entries_(num_layers) {}
  // `entries`: num_layers of them, which check_layer_table() has accepted; or none.
  LayerTable(const moetrace_ring_header& header, std::span<const moetrace_layer_entry> entries);

  std::uint32_t num_layers() const { return static_cast<std::uint32_t>(entries_.size()); }
  // The largest of all layers.
  std::uint32_t num_experts() const { return num_experts_; }
  std::uint32_t top_k() const { return top_k_; }

  // Of one layer, below num_layers().
  const moetrace_layer_entry& entry(std::uint32_t layer) const { return entries_[layer]; }
  // Entries of its rows.
  std::uint32_t top_k_of(std::uint32_t layer) const {
    return entries_[layer].top_k != 0 ? entries_[layer].top_k : top_k_;
  }
  // Its ids are below this: zero-computation experts count.
  std::uint32_t ids_of(std::uint32_t layer) const;

  // Whether an entry says anything.
  bool declared() const;

 private:
  std::uint32_t num_experts_;
  std::uint32_t top_k_;
  std::vector<moetrace_layer_entry> entries_;
};

}  // namespace moetrace
