#include "daemon/cli/layer_entries.hpp"

namespace moetrace::cli {

std::vector<moetrace_layer_entry> layer_entries(const trace::Meta& meta, std::uint32_t num_layers) {
  std::vector<moetrace_layer_entry> entries;
  if (!meta.layers) return entries;
  entries.resize(num_layers);
  for (const trace::LayerMeta& layer : *meta.layers) {
    if (layer.layer >= num_layers) continue;
    moetrace_layer_entry& entry = entries[layer.layer];
    const auto flag = [&](const std::optional<bool>& value, std::uint32_t known,
                          std::uint32_t truth) {
      if (value) entry.flags |= known | (*value ? truth : 0);
    };
    entry.experts = layer.experts.value_or(0);
    entry.zero_experts = layer.zero_experts.value_or(0);
    if (layer.zero_experts) entry.flags |= MOETRACE_LAYER_ZERO_EXPERTS_KNOWN;
    entry.top_k = layer.top_k.value_or(0);
    flag(layer.renormalized, MOETRACE_LAYER_RENORMALIZED_KNOWN, MOETRACE_LAYER_RENORMALIZED);
    flag(layer.biased, MOETRACE_LAYER_BIASED_KNOWN, MOETRACE_LAYER_BIASED);
    flag(layer.table, MOETRACE_LAYER_TABLE_KNOWN, MOETRACE_LAYER_TABLE);
    entry.scaling = layer.scaling.value_or(0);
    if (layer.scaling) entry.flags |= MOETRACE_LAYER_SCALING_KNOWN;
    if (layer.groups && layer.topk_groups) {
      entry.groups = *layer.groups;
      entry.topk_groups = *layer.topk_groups;
      entry.flags |= MOETRACE_LAYER_GROUPS_KNOWN;
    }
    layer.score.value_or("").copy(entry.score, sizeof entry.score - 1);
  }
  return entries;
}

}  // namespace moetrace::cli
