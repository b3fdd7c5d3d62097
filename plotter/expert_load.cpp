#include "plotter/expert_load.hpp"

#include <algorithm>
#include <array>
#include <bitset>
#include <deque>
#include <span>
#include <utility>
#include <vector>

#include "trace/trace_reader.hpp"

namespace moetrace::plot {
namespace {

using trace::Meta;
using trace::Route;
using trace::RowRun;
using trace::TraceReader;

// Counts distinct rows. The routes of a step are adjacent, and each layer has a row at most once,
// so a step has as many rows as its fullest layer. A plain log names no steps and counts as one
// step.
class TokenCounter {
 public:
  void add(std::optional<uint64_t> step, uint16_t layer, uint64_t rows = 1) {
    if (step != step_) {
      tokens_ += fullest_;
      fullest_ = 0;
      rows_.fill(0);
      step_ = step;
    }
    rows_[layer] += rows;
    fullest_ = std::max(fullest_, rows_[layer]);
    layers_.set(layer);
  }

  [[nodiscard]] uint64_t tokens() const { return tokens_ + fullest_; }
  // The layers that have routes.
  [[nodiscard]] const std::bitset<trace::kMaxLayers>& layers() const { return layers_; }

 private:
  std::optional<uint64_t> step_;
  std::array<uint64_t, trace::kMaxLayers> rows_{};
  uint64_t fullest_ = 0;
  uint64_t tokens_ = 0;
  std::bitset<trace::kMaxLayers> layers_;
};

Error mismatch(const std::string& path, const std::string& why) {
  return {ErrorCode::kMismatch, path + ": " + why};
}

std::string model_of(const std::optional<std::string>& model) {
  return model ? "model " + *model : "an unnamed model";
}

// Adds up files one by one.
class LoadReader {
 public:
  explicit LoadReader(std::optional<uint32_t> num_experts) : given_experts_(num_experts) {}

  Result<void> add(const std::string& path);
  ExpertLoad finish() &&;

 private:
  void add_route(const Route& route, TokenCounter& tokens);
  void add_run(const RowRun& run, TokenCounter& tokens);
  void add_ids(LayerLoad& layer, std::span<const uint16_t> ids);
  Result<void> read_lines(const std::string& path, TraceReader& reader);
  Result<void> join(const std::string& path, const TraceReader& reader);
  TokenCounter& tokens_of(const Meta& meta);
  void note_absent_parts();
  void size_layers(const Meta& meta, std::bitset<trace::kMaxLayers> layers);

  std::optional<uint32_t> given_experts_;
  ExpertLoad load_;
  // Of the first file.
  std::optional<std::string> model_;
  std::map<std::pair<dev_t, ino_t>, std::string> path_of_file_;
  // By trace id and part.
  std::map<std::pair<std::string, uint64_t>, std::string> path_of_part_;
  // The parts of a trace share a counter; each plain log has its own.
  std::deque<TokenCounter> tokens_;
  std::map<std::string, TokenCounter*> tokens_of_trace_;
};

void LoadReader::add_route(const Route& route, TokenCounter& tokens) {
  LayerLoad& layer = load_.layers[route.layer];
  ++layer.rows;
  add_ids(layer, route.expert_ids);
  tokens.add(route.step, route.layer);
}

void LoadReader::add_ids(LayerLoad& layer, std::span<const uint16_t> ids) {
  for (const uint16_t id : ids) {
    if (id >= layer.counts.size()) {
      if (id == trace::kNoExpert) continue;
      // Until a line states num_experts, the highest id sets the size.
      layer.counts.resize(id + size_t{1});
    }
    ++layer.counts[id];
  }
}

// Rows of a layer in a step are neighbours.
void LoadReader::add_run(const RowRun& run, TokenCounter& tokens) {
  const size_t top_k = run.size() == 0 ? 0 : run.expert_ids.size() / run.size();
  for (size_t first = 0, last = 0; first < run.size(); first = last) {
    const uint16_t number = run.layer[first];
    const int64_t step = run.step[first];
    while (last < run.size() && run.layer[last] == number && run.step[last] == step) ++last;
    LayerLoad& layer = load_.layers[number];
    layer.rows += last - first;
    add_ids(layer, run.expert_ids.subspan(first * top_k, (last - first) * top_k));
    tokens.add(static_cast<uint64_t>(step), number, last - first);
  }
}

TokenCounter& LoadReader::tokens_of(const Meta& meta) {
  if (!meta.trace_id) return tokens_.emplace_back();
  TokenCounter*& counter = tokens_of_trace_[*meta.trace_id];
  if (counter == nullptr) counter = &tokens_.emplace_back();
  return *counter;
}

// The first file sets model, experts and top_k of the run; the others must match it.
Result<void> LoadReader::join(const std::string& path, const TraceReader& reader) {
  const Meta& meta = reader.meta();
  if (!reader.num_experts()) {
    const uint32_t seen = reader.experts_seen();
    const std::string least = seen == 0 ? "" : ", only that it is at least " + std::to_string(seen);
    return Error{ErrorCode::kNoExperts,
                 path + ": it does not state the model's number of experts" + least};
  }
  if (load_.files == 0) {
    model_ = meta.model_id;
    load_.model_id = model_.value_or("unknown model");
    load_.num_experts = *reader.num_experts();
    load_.top_k = meta.top_k;
  }
  if (meta.model_id != model_) {
    return mismatch(
        path, "it is of " + model_of(meta.model_id) + ", the first file is of " + model_of(model_));
  }
  if (*reader.num_experts() != load_.num_experts) {
    return mismatch(path, "has " + std::to_string(*reader.num_experts()) +
                              " experts, the first file " + std::to_string(load_.num_experts));
  }
  if (meta.top_k != load_.top_k) {
    return mismatch(path, "has top_k " + std::to_string(meta.top_k) + ", the first file " +
                              std::to_string(load_.top_k));
  }
  if (meta.plain()) load_.dropped = load_.torn = std::nullopt;
  return {};
}

Result<void> LoadReader::read_lines(const std::string& path, TraceReader& reader) {
  TokenCounter& tokens = tokens_of(reader.meta());
  std::bitset<trace::kMaxLayers> layers;
  bool first = true;
  uint64_t part = 1;
  for (;;) {
    const auto next = reader.next();
    if (!next) return next.error();
    if (first && *next != nullptr) {
      if (const auto* base = std::get_if<trace::Base>(&(*next)->content))
        part = base->part.value_or(1);
    }
    if (first && reader.meta().trace_id) {
      const auto [known, added] =
          path_of_part_.emplace(std::pair{*reader.meta().trace_id, part}, path);
      if (!added) return mismatch(path, "is the same trace as " + known->second);
    }
    first = false;
    if (*next == nullptr) break;
    const auto& content = (*next)->content;
    if (const auto* route = std::get_if<Route>(&content)) {
      add_route(*route, tokens);
      layers.set(route->layer);
    } else if (const auto* run = std::get_if<RowRun>(&content)) {
      add_run(*run, tokens);
      for (const uint16_t layer : run->layer) layers.set(layer);
    } else if (const auto* loss = std::get_if<trace::Loss>(&content)) {
      if (load_.dropped) *load_.dropped += loss->dropped;
    } else if (const auto* torn = std::get_if<trace::Torn>(&content)) {
      if (load_.torn) *load_.torn += torn->count;
    }
  }
  if (reader.incomplete()) {  // its lines would have said it
    load_.dropped = load_.torn = std::nullopt;
    load_.notes.push_back(reader.incomplete()->message + "; " +
                          trace::what_to_try(*reader.incomplete()));
  }
  if (!reader.left_out().empty()) load_.notes.push_back(reader.left_out());
  size_layers(reader.meta(), layers);
  return {};
}

// `layers`: those that have rows in a file with this meta line. Where files say different things of
// a layer, or one of them nothing, it gets all ids that any of them allows.
void LoadReader::size_layers(const Meta& meta, std::bitset<trace::kMaxLayers> layers) {
  for (const uint16_t layer : meta.layers_logged) layers.set(layer);
  for (uint16_t layer = 0; layer < trace::kMaxLayers; ++layer) {
    if (!layers.test(layer)) continue;
    LayerLoad& load = load_.layers[layer];
    const uint32_t ids = meta.ids_of(layer).value_or(given_experts_.value_or(0));
    if (load.counts.size() < ids) load.counts.resize(ids);
    load.top_k = std::max(load.top_k, meta.top_k_of(layer));
  }
}

Result<void> LoadReader::add(const std::string& path) {
  auto reader =
      TraceReader::open(path, {.num_experts = given_experts_, .one_of_two = true, .runs = true});
  if (!reader) return reader.error();
  if (reader->incomplete() && reader->incomplete()->code == ErrorCode::kNoRows) {
    return *reader->incomplete();
  }
  const auto [known, added] = path_of_file_.emplace(reader->identity(), path);
  if (!added) {
    load_.notes.push_back(path + ": is the same file as " + known->second +
                          ": counted once; give each file once");
    return {};
  }
  // Traces and most logs start with a meta line: report a mismatch before reading all rows.
  if (reader->num_experts() && reader->meta().top_k != 0 && load_.files > 0) {
    if (const auto joined = join(path, *reader); !joined) return joined.error();
  }
  if (const auto read = read_lines(path, *reader); !read) return read.error();
  if (const auto joined = join(path, *reader); !joined) return joined.error();
  ++load_.files;
  return {};
}

// The pictures show only the rows of the files that were given.
void LoadReader::note_absent_parts() {
  std::string trace_id;
  uint64_t next = 1;
  for (const auto& [place, path] : path_of_part_) {
    const auto& [id, part] = place;
    if (id != trace_id) next = 1;
    trace_id = id;
    if (part > next) {
      const std::string absent = part == next + 1
                                     ? "part " + std::to_string(next) + " of its trace is"
                                     : "parts " + std::to_string(next) + " to " +
                                           std::to_string(part - 1) + " of its trace are";
      load_.notes.push_back(path + ": " + absent +
                            " absent, so their rows are not counted; give them, too, unless the "
                            "collector has removed them (--keep)");
    }
    next = part + 1;
  }
}

ExpertLoad LoadReader::finish() && {
  note_absent_parts();
  std::map<uint16_t, uint64_t> tokens_of_layer;
  for (const TokenCounter& counter : tokens_) {
    for (uint16_t layer = 0; layer < trace::kMaxLayers; ++layer) {
      if (counter.layers().test(layer)) tokens_of_layer[layer] += counter.tokens();
    }
  }
  for (const auto& [layer, tokens] : tokens_of_layer) load_.tokens = std::max(load_.tokens, tokens);
  return std::move(load_);
}

}  // namespace

LayerLoad ExpertLoad::total() const {
  LayerLoad sum{.counts = std::vector<uint64_t>(num_experts)};
  for (const auto& [number, layer] : layers) {
    sum.rows += layer.rows;
    for (size_t id = 0; id < layer.counts.size(); ++id) sum.counts[id] += layer.counts[id];
  }
  return sum;
}

bool ExpertLoad::layers_differ() const {
  return std::ranges::any_of(
      layers, [this](const auto& layer) { return layer.second.counts.size() != num_experts; });
}

Result<ExpertLoad> read_expert_load(const std::vector<std::string>& paths,
                                    std::optional<uint32_t> num_experts) {
  LoadReader reader(num_experts);
  for (const std::string& path : paths) {
    if (const auto added = reader.add(path); !added) return added.error();
  }
  return std::move(reader).finish();
}

}  // namespace moetrace::plot
