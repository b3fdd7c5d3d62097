#include "daemon/collector/stats_line.hpp"

#include "shm/counts_words.hpp"

namespace moetrace {

std::optional<StatsLine> stats_line(const SegmentMap& map, const std::string& trace_id,
                                    const RunningTotals& totals) {
  const moetrace_ring_header& header = map.header();
  const auto counts = read_counts(map);
  if (!counts || counts->version == 0) return std::nullopt;
  LineBuffer out;
  out.append("{\"type\":\"stats\",\"trace_id\":\"", trace_id,
             "\",\"steps_done\":", counts->steps_done, ",\"num_layers\":", header.num_layers,
             ",\"num_experts\":", header.num_experts, ",\"attempted\":", totals.attempted(),
             ",\"delivered\":", totals.delivered(), ",\"filtered\":", totals.filtered(),
             ",\"dropped\":", totals.dropped(), ",\"torn\":", totals.torn(), ",\"counts\":[");
  for (std::uint32_t layer = 0; layer < header.num_layers; ++layer) {
    out.append(std::string_view(layer == 0 ? "[" : ",["));
    bool first = true;
    for (const std::uint64_t count : counts->layer(header, layer)) {
      if (!first) out.append(",");
      out.append(count);
      first = false;
    }
    out.append("]");
  }
  out.append("]}\n");
  return StatsLine{counts->version, std::string(out.view())};
}

}  // namespace moetrace
