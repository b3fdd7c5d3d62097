#include "plotter/metrics.hpp"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

namespace moetrace::plot {
namespace {

using Json = nlohmann::ordered_json;

template <class Number>
Json number_or_null(const std::optional<Number>& value) {
  return value ? Json(*value) : Json(nullptr);
}

Json to_json(const std::vector<uint64_t>& counts) {
  const Metrics metrics = measure(counts);
  Json top = Json::array();
  for (const ExpertShare& expert : metrics.top_3) {
    top.push_back({{"expert", expert.expert}, {"count", expert.count}, {"share", expert.share}});
  }
  return {{"top_3_experts", top},
          {"shannon_entropy_bits", number_or_null(metrics.entropy_bits)},
          {"max_entropy_bits", metrics.max_entropy_bits},
          {"normalized_entropy", number_or_null(metrics.normalized_entropy)},
          {"total_selections", metrics.total_selections},
          {"num_experts", counts.size()}};
}

}  // namespace

double Metrics::top_3_share() const {
  double sum = 0;
  for (const ExpertShare& expert : top_3) sum += expert.share;
  return sum;
}

Metrics measure(const std::vector<uint64_t>& counts) {
  Metrics metrics;
  metrics.total_selections = std::accumulate(counts.begin(), counts.end(), uint64_t{0});
  metrics.max_entropy_bits = counts.empty() ? 0 : std::log2(static_cast<double>(counts.size()));
  if (metrics.total_selections == 0) return metrics;

  const auto total = static_cast<double>(metrics.total_selections);
  double entropy = 0;
  for (uint32_t id = 0; id < counts.size(); ++id) {
    if (counts[id] == 0) continue;
    const double share = static_cast<double>(counts[id]) / total;
    entropy -= share * std::log2(share);
    metrics.top_3.push_back({.expert = id, .count = counts[id], .share = share});
  }
  std::ranges::stable_sort(metrics.top_3, std::ranges::greater(), &ExpertShare::count);
  if (metrics.top_3.size() > 3) metrics.top_3.resize(3);
  // + 0.0 turns the -0 of a single picked expert into 0.
  metrics.entropy_bits = entropy + 0.0;
  if (counts.size() > 1) metrics.normalized_entropy = entropy / metrics.max_entropy_bits;
  return metrics;
}

std::string metrics_json(const ExpertLoad& load) {
  const LayerLoad total = load.total();
  Json json = to_json(total.counts);
  json["model_id"] = load.model_id;
  json["top_k"] = load.top_k;
  json["rows"] = total.rows;
  json["tokens"] = load.tokens;
  json["dropped"] = number_or_null(load.dropped);
  json["torn"] = number_or_null(load.torn);
  json["layers"] = Json::array();
  for (const auto& [number, layer] : load.layers) {
    Json entry{{"layer", number}, {"rows", layer.rows}};
    entry.update(to_json(layer.counts));
    json["layers"].push_back(entry);
  }
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace moetrace::plot
