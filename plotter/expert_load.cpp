#include "plotter/expert_load.hpp"

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "plotter/trace_reader.hpp"

namespace moetrace::plot {
namespace {

using trace::Line;
using trace::Meta;
using trace::Route;
using trace::TraceReader;

// Counts distinct rows. The routes of a step stand together, and each layer has a row at most once,
// so a step has as many rows as its fullest layer. A plain log names no steps: all of it counts as
// one.
class TokenCounter {
 public:
  void add(const Route& route) {
    if (route.step != step_) {
      tokens_ += fullest_;
      fullest_ = 0;
      rows_.fill(0);
      step_ = route.step;
    }
    fullest_ = std::max(fullest_, ++rows_[route.layer]);
  }

  [[nodiscard]] uint64_t tokens() const { return tokens_ + fullest_; }

 private:
  std::optional<uint64_t> step_;
  std::array<uint64_t, trace::kMaxLayers> rows_{};
  uint64_t fullest_ = 0;
  uint64_t tokens_ = 0;
};

LayerLoad& layer_of(ExpertLoad& load, uint16_t layer) {
  LayerLoad& found = load.layers[layer];
  found.counts.resize(load.num_experts);
  return found;
}

void add_route(ExpertLoad& load, const Route& route) {
  LayerLoad& layer = layer_of(load, route.layer);
  ++layer.rows;
  for (const uint16_t id : route.expert_ids) {
    if (id != trace::kNoExpert) ++layer.counts[id];
  }
}

Error mismatch(const std::string& path, const std::string& why) {
  return {ErrorCode::kMismatch, path + ": " + why};
}

// The first file sets what the run is; the others must be of the same run.
Result<void> join(ExpertLoad& load, const std::string& path, const TraceReader& reader) {
  const Meta& meta = reader.meta();
  if (!reader.num_experts()) {
    return Error{ErrorCode::kNoExperts,
                 path + ": its meta line does not say how many experts the model has"};
  }
  const std::string model = meta.model_id.value_or("unknown model");
  if (load.files++ == 0) {
    load.model_id = model;
    load.num_experts = *reader.num_experts();
    load.top_k = meta.top_k;
  }
  if (model != load.model_id) {
    return mismatch(path, "is a trace of " + model + ", the first file of " + load.model_id);
  }
  if (*reader.num_experts() != load.num_experts) {
    return mismatch(path, "has " + std::to_string(*reader.num_experts()) +
                              " experts, the first file " + std::to_string(load.num_experts));
  }
  if (meta.top_k != load.top_k) {
    return mismatch(path, "has top_k " + std::to_string(meta.top_k) + ", the first file " +
                              std::to_string(load.top_k));
  }
  for (const uint16_t layer : meta.layers_logged) layer_of(load, layer);
  if (meta.plain()) load.dropped = load.torn = std::nullopt;
  return {};
}

// Adds one file; its tokens go to each layer that it has routes of.
Result<void> read_file(ExpertLoad& load, TraceReader& reader,
                       std::map<uint16_t, uint64_t>& tokens_of_layer) {
  TokenCounter tokens;
  std::set<uint16_t> layers;
  for (;;) {
    const auto next = reader.next();
    if (!next) return next.error();
    if (*next == nullptr) break;
    const auto& content = (*next)->content;
    if (const auto* route = std::get_if<Route>(&content)) {
      add_route(load, *route);
      tokens.add(*route);
      layers.insert(route->layer);
    } else if (const auto* loss = std::get_if<trace::Loss>(&content)) {
      if (load.dropped) *load.dropped += loss->dropped;
    } else if (const auto* torn = std::get_if<trace::Torn>(&content)) {
      if (load.torn) *load.torn += torn->count;
    }
  }
  for (const uint16_t layer : layers) tokens_of_layer[layer] += tokens.tokens();
  return {};
}

}  // namespace

LayerLoad ExpertLoad::total() const {
  LayerLoad sum{.counts = std::vector<uint64_t>(num_experts), .rows = 0};
  for (const auto& [number, layer] : layers) {
    sum.rows += layer.rows;
    for (uint32_t id = 0; id < num_experts; ++id) sum.counts[id] += layer.counts[id];
  }
  return sum;
}

Result<ExpertLoad> read_expert_load(const std::vector<std::string>& paths,
                                    std::optional<uint32_t> num_experts) {
  ExpertLoad load;
  std::map<uint16_t, uint64_t> tokens_of_layer;
  std::map<std::string, std::string> path_of_trace;
  for (const std::string& path : paths) {
    auto reader = TraceReader::open(path, {.num_experts = num_experts});
    if (!reader) return reader.error();
    if (const auto& id = reader->meta().trace_id) {
      const auto [known, added] = path_of_trace.emplace(*id, path);
      if (!added) return mismatch(path, "is the same trace as " + known->second);
    }
    if (const auto joined = join(load, path, *reader); !joined) return joined.error();
    if (const auto read = read_file(load, *reader, tokens_of_layer); !read) return read.error();
  }
  for (const auto& [layer, tokens] : tokens_of_layer) load.tokens = std::max(load.tokens, tokens);
  return load;
}

}  // namespace moetrace::plot
