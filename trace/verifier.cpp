#include "trace/verifier.hpp"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "common/names.hpp"

namespace moetrace::trace {
namespace {

constexpr std::string_view kContinued = "continued";
constexpr std::array<std::string_view, 4> kEndStatuses = {"closed", "producer died", kContinued,
                                                          "bad segment"};

// What every collector has written, null where it does not know.
constexpr const char* kMetaKeys[] = {
    "model_id",   "vllm_version", "torch_version",  "device",      "seed",  "layers_logged",
    "trace_id",   "engine",       "engine_version", "num_layers",  "rank",  "world_size",
    "created_at", "host",         "router",         "num_experts", "ranks", "sample_every"};

constexpr const char* kLayerKeys[] = {"experts",      "zero_experts", "top_k",  "score",
                                      "renormalized", "scaling",      "biased", "groups",
                                      "topk_groups",  "table"};

// Of two parts' meta lines: only where their rows are may differ.
bool same_trace(const std::string& a, const std::string& b) {
  if (a == b) return true;
  auto one = nlohmann::json::parse(a, nullptr, /*allow_exceptions=*/false);
  auto other = nlohmann::json::parse(b, nullptr, /*allow_exceptions=*/false);
  one.erase("rows");
  other.erase("rows");
  return one == other;
}

}  // namespace

std::optional<Wrong> Verifier::begin(const Meta& meta) {
  line_ = 1;
  const bool first = meta_.empty();
  std::string why;
  if (first) {
    summary_.plain = meta.plain();
    if (!summary_.plain) why = check_meta(meta);
    meta_ = meta.text;
    num_layers_ = meta.num_layers.value_or(kMaxLayers);
    for (const LayerMeta& layer : meta.layers.value_or(std::vector<LayerMeta>()))
      declared_.set(layer.layer);
    if (!meta.layers) declared_.set();
    if (why.empty()) selection_.emplace(meta, warnings_);
  } else {
    if (!same_trace(meta.text, meta_)) why = "differs from the meta line of the part before";
    if (why.empty() && summary_.status != kContinued) {
      why = "the trace was over before this part: its end line says " + summary_.status;
    }
    ++summary_.parts;
    part_expected_ = true;
    ended_ = false;
  }
  if (why.empty()) return std::nullopt;
  return wrong(std::move(why));
}

Wrong Verifier::wrong(std::string why) const {
  if (row_ && sums_.wrong_line() == 0) {
    why = "the row with seq " + std::to_string(*row_) + " after it: " + why;
  }
  Wrong answer{sums_.wrong_line() != 0 ? sums_.wrong_line() : line_, std::move(why)};
  if (part_missing_) answer.what_to_try = "give all parts from the first one of them to the last";
  return answer;
}

std::string Verifier::check_meta(const Meta& meta) {
  const auto line = nlohmann::json::parse(meta.text, nullptr, /*allow_exceptions=*/false);
  for (const char* key : kMetaKeys) {
    if (!line.contains(key)) return "missing key \"" + std::string(key) + "\"";
  }
  // A collector writes both or, of a producer before ABI 1.3, none.
  for (const auto& [key, other] : {std::pair("engine_id", "layers"), {"layers", "engine_id"}}) {
    if (line.contains(other) && !line.contains(key))
      return "missing key \"" + std::string(key) + "\"";
  }
  for (const auto& layer : meta.layers ? line["layers"] : nlohmann::json::array()) {
    for (const char* key : kLayerKeys) {
      if (!layer.contains(key))
        return "\"layers\" has an entry without \"" + std::string(key) + "\"";
    }
  }
  if (!meta.sample_every) return "\"sample_every\" must be a whole number";
  if (!is_trace_id(*meta.trace_id)) {
    return "\"trace_id\" must be a UUID in lower case, not \"" + *meta.trace_id + "\"";
  }
  const auto& layers = meta.layers_logged;
  if (std::adjacent_find(layers.begin(), layers.end(), std::greater_equal<>()) != layers.end()) {
    return "\"layers_logged\" must rise";
  }
  if (!layers.empty() && meta.num_layers && layers.back() >= *meta.num_layers) {
    return "\"layers_logged\" has layer " + std::to_string(layers.back()) + ", the model has " +
           std::to_string(*meta.num_layers) + " layers";
  }
  return check_declared(meta);
}

// The layers that the engine declared are those of the model, and all that it logs.
std::string Verifier::check_declared(const Meta& meta) {
  if (!meta.layers) return {};
  if (!meta.layers->empty() && meta.num_layers && meta.layers->back().layer >= *meta.num_layers) {
    return "\"layers\" has layer " + std::to_string(meta.layers->back().layer) +
           ", the model has " + std::to_string(*meta.num_layers) + " layers";
  }
  for (const LayerMeta& layer : *meta.layers) {
    if (layer.groups.has_value() != layer.topk_groups.has_value() ||
        layer.topk_groups > layer.groups) {
      return "\"layers\" has layer " + std::to_string(layer.layer) +
             ", whose \"topk_groups\" do not fit its \"groups\"";
    }
  }
  const auto& logged = meta.layers_logged;
  const auto unknown = std::find_if(logged.begin(), logged.end(), [&](std::uint16_t layer) {
    return meta.declared(layer) == nullptr;
  });
  if (unknown == logged.end()) return {};
  return "\"layers_logged\" has layer " + std::to_string(*unknown) + ", which \"layers\" lacks";
}

std::optional<Wrong> Verifier::check(const Line& line) {
  line_ = line.number;
  const auto* const row = line.text.empty() ? std::get_if<Route>(&line.content) : nullptr;
  row_ = row != nullptr ? row->seq : std::nullopt;
  warnings_.at_row(row_);
  sums_.at_line(line_);
  requests_.at_line(line_);
  selection_->at_line(line_);
  std::string why;
  if (summary_.plain) {
    why = check_plain(line.content);
  } else if (ended_) {
    why = "stands after the end line";
  } else if (part_expected_ && !std::holds_alternative<Base>(line.content)) {
    why = "a part's second line must be its part line";
  } else {
    why = std::visit([this](const auto& content) { return check(content); }, line.content);
  }
  if (why.empty()) return std::nullopt;
  return wrong(std::move(why));
}

std::optional<Wrong> Verifier::finish_part() {
  if (summary_.plain) return std::nullopt;
  if (!ended_) return Wrong{0, "no end line", {}};
  summary_.requests = requests_.begun();
  complete_ = complete_ && sums_.complete();
  requests_.finish(summary_.status == "closed", complete_ && selection_->always_everything());
  return std::nullopt;
}

std::vector<std::string> Verifier::take_warnings() {
  std::vector<std::string> lines = warnings_.lines();
  warnings_ = {};
  return lines;
}

std::string Verifier::check_plain(const Content& content) {
  const auto* row = std::get_if<Route>(&content);
  const bool of_a_trace =
      row != nullptr ? row->seq.has_value() : !std::holds_alternative<Unknown>(content);
  // A trace that lost its beginning must not pass for a log of another hook.
  if (of_a_trace && meta_.empty()) {
    return "is a line of a trace, but the trace's beginning, with its meta line, is missing";
  }
  if (row != nullptr) {
    ++summary_.rows;
    summary_.layers.set(row->layer);
  } else if (of_a_trace) {
    warnings_.add(Strange::kPlainLogOfTrace, line_, [] {
      return std::string("stands in a plain log, whose meta has no \"schema\"");
    });
  }
  return {};
}

// Numbers of events rise; unknown kinds of events have no line, so they may leave gaps.
std::string Verifier::take_event(std::optional<std::uint64_t> event) {
  if (!event) {
    if (opening_) return {};
    return "\"event\" is null, which only a live request right after a base or part line may have";
  }
  opening_ = false;
  if (last_event_ && *event <= *last_event_) {
    return "event " + std::to_string(*event) + " does not rise, the one before was " +
           std::to_string(*last_event_);
  }
  if (first_event_ && *event < *first_event_) {
    return "event " + std::to_string(*event) + " was before this file, which begins at event " +
           std::to_string(*first_event_);
  }
  last_event_ = event;
  return {};
}

std::string Verifier::check(const Base& base) {
  if (line_ != 2) return "must be the second line";
  if (base.part && *base.part < 2)
    return "\"part\" must be 2 or more, not " + std::to_string(*base.part);
  if (part_expected_) {
    if (!base.part) return "a part's second line must be its part line";
    if (*base.part != part_ + 1) {
      part_missing_ = true;
      return "starts part " + std::to_string(*base.part) + " after part " + std::to_string(part_);
    }
    if (last_event_ && base.event <= *last_event_) {
      return "\"event\" is " + std::to_string(base.event) + ", but the part before has event " +
             std::to_string(*last_event_);
    }
    if (base.step && base.step != last_step_) {
      return "\"step\" is " + std::to_string(*base.step) +
             ", but the last one of the part before is " +
             (last_step_ ? std::to_string(*last_step_) : "none");
    }
    if (std::string why = sums_.go_on(base); !why.empty()) return why;
  } else {
    if (std::string why = sums_.start(base); !why.empty()) return why;
    summary_.first_part = base.part.value_or(1);
    if (base.part) summary_.rows_before = base.totals.delivered.value_or(0);
    selection_->forget();
    last_step_ = late_step_ = base.step;
    late_rows_ = base.open;
  }
  requests_.begin_late(part_expected_);
  part_expected_ = false;
  part_ = base.part.value_or(1);
  first_event_ = base.event;
  opening_ = true;
  return {};
}

std::string Verifier::check(const Request& request) {
  if (std::string why = take_event(request.event); !why.empty()) return why;
  return requests_.begin(request);
}

std::string Verifier::check(const RequestEnd& end) {
  if (std::string why = take_event(end.event); !why.empty()) return why;
  if (!end.status) return "\"status\" must be a string";
  return requests_.end(end);
}

std::string Verifier::check(const Step& step) {
  if (std::string why = take_event(step.event); !why.empty()) return why;
  if (last_step_ && step.step <= *last_step_) {
    return "step " + std::to_string(step.step) + " does not rise, the one before was " +
           std::to_string(*last_step_);
  }
  if (step.layers > num_layers_) {
    return "records " + std::to_string(step.layers) + " layers, the model has " +
           std::to_string(num_layers_);
  }
  const std::int64_t time = step.time_ns.value_or(last_time_);
  if (time < last_time_) {
    warnings_.add(Strange::kTimeGoesBack, line_, [&] {
      return "\"time_ns\" is " + std::to_string(time) + " after " + std::to_string(last_time_);
    });
  }
  last_time_ = time;
  last_step_ = step.step;
  selection_->check(step);
  ++summary_.steps;
  if (step.layers > 0) announced_.push_back({step.step, step.rows, step.layers});
  return sums_.take(step);
}

std::string Verifier::check(const Route& route) {
  opening_ = false;
  if (!route.step || !route.seq) return "a route line needs \"step\" and \"seq\"";
  if (std::string why = sums_.take_route(*route.seq); !why.empty()) return why;
  if (std::string why = requests_.take(route); !why.empty()) return why;
  if (std::string why = check_step(route); !why.empty()) return why;
  if (!declared_.test(route.layer)) {
    return "is a row of layer " + std::to_string(route.layer) + ", which \"layers\" in meta lacks";
  }
  selection_->check(route);
  check_entries(route);
  ++summary_.rows;
  summary_.layers.set(route.layer);
  return {};
}

// Rows of a step come after its line and before those of any later step.
std::string Verifier::check_step(const Route& route) {
  const std::uint64_t step = *route.step;
  if (!route_step_ || step != *route_step_) {
    if (route_step_ && step < *route_step_) {
      return "a row of step " + std::to_string(step) + " after one of step " +
             std::to_string(*route_step_);
    }
    while (!announced_.empty() && announced_.front().step < step) announced_.pop_front();
    if (!announced_.empty() && announced_.front().step == step) {
      seen_rows_.begin(announced_.front().rows, announced_.front().layers);
    }
    route_step_ = step;
  }
  if (!announced_.empty() && announced_.front().step == step) {
    return seen_rows_.add(route.layer, route.request, route.token_idx);
  }
  // Announced to an earlier file: only their number is known.
  if (late_step_ && step == *late_step_ && late_rows_ > 0) {
    --late_rows_;
    return {};
  }
  return "is a row of step " + std::to_string(step) + ", which no step line announced";
}

void Verifier::check_entries(const Route& route) {
  const auto& ids = route.expert_ids;
  for (auto id = ids.begin(); id != ids.end(); ++id) {
    if (*id == kNoExpert || std::find(ids.begin(), id, *id) == id) continue;
    warnings_.add(Strange::kExpertTwice, line_,
                  [&] { return "expert " + std::to_string(*id) + " is in the row twice"; });
    break;
  }
  const auto negative =
      std::find_if(route.weights.begin(), route.weights.end(), [](float w) { return w < 0; });
  if (negative == route.weights.end()) return;
  warnings_.add(Strange::kNegativeWeight, line_,
                [&] { return "weight " + nlohmann::json(*negative).dump() + " is negative"; });
}

std::string Verifier::check(const Control& control) {
  if (std::string why = take_event(control.event); !why.empty()) return why;
  if (last_step_ && control.from_step <= *last_step_) {
    return "\"from_step\" is " + std::to_string(control.from_step) + ", but step " +
           std::to_string(*last_step_) + " has begun already";
  }
  const auto& layers = control.layers;
  if (std::adjacent_find(layers.begin(), layers.end(), std::greater_equal<>()) != layers.end()) {
    return "\"layers\" must rise";
  }
  const auto lacking = std::find_if(layers.begin(), layers.end(),
                                    [&](std::uint16_t layer) { return !declared_.test(layer); });
  if (lacking != layers.end()) {
    return "\"layers\" has layer " + std::to_string(*lacking) + ", which \"layers\" in meta lacks";
  }
  if (!control.enabled) return "\"enabled\" must be true or false";
  selection_->take(control);
  return {};
}

std::string Verifier::check(const End& end) {
  if (std::find(kEndStatuses.begin(), kEndStatuses.end(), end.status) == kEndStatuses.end()) {
    return "\"status\" must be closed, producer died, continued or bad segment, not \"" +
           std::string(end.status) + "\"";
  }
  if (std::string why = sums_.take(end); !why.empty()) return why;
  if (end.ring && (end.ring->slots == 0 || end.ring->high_water > end.ring->slots)) {
    return "\"high_water\" in \"ring\" is " + std::to_string(end.ring->high_water) +
           ", but the ring has " + std::to_string(end.ring->slots) + " slots";
  }
  if (end.status == kContinued && end.open != sums_.open()) {
    return "\"open\" must be the number of rows that are left to the next part, " +
           std::to_string(sums_.open());
  }
  summary_.attempted += end.attempted;
  summary_.filtered += end.filtered;
  summary_.dropped += end.dropped;
  summary_.torn += end.torn;
  summary_.status = end.status;
  summary_.cost_ns.reset();
  if (end.cost && end.cost->announce_ns && end.cost->hook_ns) {
    summary_.cost_ns =
        static_cast<double>(*end.cost->announce_ns) + static_cast<double>(*end.cost->hook_ns);
  }
  ended_ = true;
  return {};
}

}  // namespace moetrace::trace
