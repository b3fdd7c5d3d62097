#include "daemon/cli/plain_trace.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "daemon/cli/row_losses.hpp"

namespace moetrace::cli {
namespace {

using nlohmann::ordered_json;

// More rows than a pass of any engine has. An open step is kept in memory.
constexpr std::uint32_t kMostRowsOfStep = 1 << 15;

template <class T>
ordered_json or_null(const std::optional<T>& value) {
  return value ? ordered_json(*value) : ordered_json(nullptr);
}

}  // namespace

std::string plain_trace_meta(const trace::Meta& meta, const std::string& trace_id) {
  ordered_json line;
  line["type"] = "meta";
  line["model_id"] = or_null(meta.model_id);
  line["vllm_version"] = or_null(meta.vllm_version);
  line["torch_version"] = or_null(meta.torch_version);
  line["device"] = or_null(meta.device);
  line["seed"] = or_null(meta.seed);
  line["layers_logged"] = meta.layers_logged;
  line["top_k"] = meta.top_k;
  line["num_experts"] = *meta.num_experts;
  line["schema"] = "moetrace/1";
  line["trace_id"] = trace_id;
  line["engine"] = or_null(meta.engine);
  line["engine_version"] = or_null(meta.engine_version);
  line["num_layers"] = or_null(meta.num_layers);
  for (const char* unknown : {"router", "rank", "world_size", "ranks", "host"})
    line[unknown] = nullptr;
  line["created_at"] = or_null(meta.created_at);
  line["sample_every"] = 1;
  return line.dump();
}

PlainTrace::PlainTrace(const trace::Meta& meta, TraceWriter& writer, Losses& losses)
    : meta_(meta),
      writer_(writer),
      losses_(losses),
      steps_({.max_rows = kMostRowsOfStep,
              .max_spans = kMostRowsOfStep,
              .falling_position_starts_step = true},
             [this](const ReplayStep& step) { write_step(step); }) {}

std::optional<Failure> PlainTrace::take(const trace::Line& line) {
  const LinePlace place{line.number, line.text};
  if (const auto* route = std::get_if<trace::Route>(&line.content)) return take_row(*route, place);
  return losses_.lose(Losses::Kind::kLines, line.number,
                      "the line, which is neither a row nor a meta line,");
}

std::optional<Failure> PlainTrace::take_row(const trace::Route& route, const LinePlace& place) {
  if (auto lost = lose_keys_of_row(losses_, place)) return lost;
  if (std::ranges::find(meta_.layers_logged, route.layer) == meta_.layers_logged.end()) {
    return Failure{kFailed, "line " + std::to_string(place.number) + ": layer " +
                                std::to_string(route.layer) +
                                " is not in layers_logged; give the log by its name, so that it "
                                "can be read twice"};
  }
  RowKey key;
  key.position = route.token_idx.value_or(MOETRACE_UNKNOWN_POSITION);
  if (route.req_id) {
    key.request = request_of(*route.req_id);
  } else if (route.token_idx) {
    key.request = kNamelessRequest;
  }
  if (!failed_) steps_.add(key, route.layer, route.expert_ids, route.weights);
  return failed_;
}

std::optional<Failure> PlainTrace::finish() {
  steps_.finish_step();
  if (failed_) return failed_;
  append_end(buffer_, totals_, kClosed, std::nullopt, std::nullopt);
  put_line(trace::End{.attempted = totals_.attempted(),
                      .delivered = totals_.delivered(),
                      .status = kClosed,
                      .cost = {},
                      .open = {}});
  return failed_;
}

// Writes the line that buffer_ holds.
void PlainTrace::put_line(const trace::Content& content) {
  std::string_view text = buffer_.view();
  text.remove_suffix(1);
  if (!failed_) failed_ = writer_.line(text, content);
  buffer_.clear();
}

std::uint64_t PlainTrace::request_of(std::string_view name) {
  const auto [found, is_new] = requests_.try_emplace(std::string(name), requests_.size());
  if (!is_new) return found->second;
  append_request(buffer_,
                 {.request = found->second,
                  .prompt_tokens = MOETRACE_UNKNOWN_TOKENS,
                  .cached_tokens = MOETRACE_UNKNOWN_TOKENS,
                  .id = found->first},
                 events_);
  put_line(trace::Request{.req_id = found->first,
                          .prompt_tokens = {},
                          .cached_tokens = {},
                          .request = found->second,
                          .event = events_});
  ++events_;
  return found->second;
}

void PlainTrace::write_step(const ReplayStep& step) {
  totals_.announce(std::uint64_t{step.rows} * step.layers.size());
  append_step(buffer_,
              {.step = next_step_,
               .rows = step.rows,
               .layers = static_cast<std::uint32_t>(step.layers.size())},
              std::nullopt, totals_, events_);
  put_line(trace::Step{.step = next_step_,
                       .rows = step.rows,
                       .layers = step.layers.size(),
                       .time_ns = {},
                       .seq = totals_.next_seq(),
                       .event = events_,
                       .totals = {}});
  ++events_;
  write_rows(step);
  ++next_step_;
}

void PlainTrace::write_rows(const ReplayStep& step) {
  std::vector<std::uint16_t> ids(meta_.top_k);
  const float* weights = step.weights.data();
  const std::uint32_t* next_ids = step.ids.data();
  for (const std::uint16_t layer : step.layers) {
    auto span = step.spans.begin();
    for (std::uint32_t row = 0; row < step.rows && !failed_; ++row) {
      while (span != step.spans.end() && row >= span->first_row + span->rows) ++span;
      trace::Route route;
      route.layer = layer;
      if (span != step.spans.end() && row >= span->first_row) {
        if (span->request != kNamelessRequest) route.request = span->request;
        if (span->first_position != MOETRACE_UNKNOWN_POSITION)
          route.token_idx = span->first_position + (row - span->first_row);
      }
      std::transform(next_ids, next_ids + meta_.top_k, ids.begin(),
                     [](std::uint32_t id) { return static_cast<std::uint16_t>(id); });
      route.expert_ids = ids;
      route.weights = {weights, meta_.top_k};
      route.step = next_step_;
      route.seq = totals_.next_seq();
      if (!totals_.deliver(*route.seq))
        failed_ = Failure{kFailed, "more rows than a trace can have"};
      if (!failed_) failed_ = writer_.row(route, {});
      next_ids += meta_.top_k;
      weights += meta_.top_k;
    }
  }
}

}  // namespace moetrace::cli
