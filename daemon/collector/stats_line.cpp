#include "daemon/collector/stats_line.hpp"

#include <vector>

namespace moetrace {

std::optional<StatsLine> stats_line(const SegmentMap& map, const std::string& trace_id,
                                    const RunningTotals& totals) {
  const moetrace_ring_header& header = map.header();
  // Word 0: steps done; then [layer][expert].
  std::vector<std::uint64_t> words(1 + std::size_t{header.num_layers} * header.num_experts);
  const auto version =
      VersionedWords<CountsWords>(CountsWords(map))
          .read(words.size(), [&](std::size_t w, std::uint64_t v) { words[w] = v; });
  if (!version || *version == 0) return std::nullopt;
  LineBuffer out;
  out.append("{\"type\":\"stats\",\"trace_id\":\"", trace_id, "\",\"steps_done\":", words[0],
             ",\"num_layers\":", header.num_layers, ",\"num_experts\":", header.num_experts,
             ",\"attempted\":", totals.attempted(), ",\"delivered\":", totals.delivered(),
             ",\"filtered\":", totals.filtered(), ",\"dropped\":", totals.dropped(),
             ",\"torn\":", totals.torn(), ",\"counts\":[");
  for (std::uint32_t layer = 0; layer < header.num_layers; ++layer) {
    out.append(std::string_view(layer == 0 ? "[" : ",["));
    for (std::uint32_t expert = 0; expert < header.num_experts; ++expert) {
      if (expert > 0) out.append(",");
      out.append(words[1 + std::size_t{layer} * header.num_experts + expert]);
    }
    out.append("]");
  }
  out.append("]}\n");
  return StatsLine{*version, std::string(out.view())};
}

}  // namespace moetrace
