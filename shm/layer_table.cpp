#include "shm/layer_table.hpp"

#include <algorithm>

namespace moetrace {

LayerTable::LayerTable(const moetrace_ring_header& header,
                       std::span<const moetrace_layer_entry> entries)
    : LayerTable(header.num_layers, header.num_experts, header.top_k) {
  std::ranges::copy(entries, entries_.begin());
}

std::uint32_t LayerTable::ids_of(std::uint32_t layer) const {
  const moetrace_layer_entry& of = entries_[layer];
  const bool known = of.experts != 0 && (of.flags & MOETRACE_LAYER_ZERO_EXPERTS_KNOWN) != 0;
  return known ? of.experts + of.zero_experts : num_experts_;
}

bool LayerTable::declared() const {
  return std::ranges::any_of(entries_, [](const moetrace_layer_entry& entry) {
    return entry.experts != 0 || entry.top_k != 0 || entry.flags != 0 || entry.score[0] != '\0';
  });
}

}  // namespace moetrace
