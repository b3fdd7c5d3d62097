#include "trace/file_parser.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "trace/file_kind.hpp"
#include "trace/json_cursor.hpp"
#include "trace/meta_parser.hpp"

namespace moetrace::trace {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

std::string_view without_mark(std::string_view line) {
  if (line.starts_with(kByteOrderMark)) line.remove_prefix(kByteOrderMark.size());
  return line;
}

std::string text(uint64_t number) {
  return std::to_string(number);
}
std::string text(const std::string& value) {
  return "\"" + value + "\"";
}

Error one_file_each(const char* why) {
  return {ErrorCode::kBadMeta, why, "give each of them as a file of its own"};
}

Error contradiction(const char* key, const std::string& now, const std::string& before) {
  return {ErrorCode::kBadMeta,
          "the meta line says \"" + std::string(key) + "\" is " + now + ", before it was " + before,
          "give each log as a file of its own"};
}

}  // namespace

FileParser::FileParser(std::optional<uint32_t> num_experts)
    : given_experts_(num_experts),
      limits_{.top_k = 0,
              .num_experts = num_experts.value_or(kMaxExperts),
              .num_layers = kMaxLayers,
              .plain = true,
              .experts_given = num_experts.has_value(),
              .layers = {}},
      scanner_(limits_),
      parser_(limits_) {}

std::optional<uint32_t> FileParser::num_experts() const {
  return meta_.num_experts ? meta_.num_experts : given_experts_;
}

void FileParser::set_limits() {
  limits_ = {.top_k = meta_.top_k,
             .num_experts = num_experts().value_or(kMaxExperts),
             .num_layers = meta_.num_layers.value_or(kMaxLayers),
             .plain = meta_.plain(),
             .experts_given = given_experts_ && !meta_.num_experts,
             .layers = {}};
  for (const LayerMeta& layer : meta_.layers.value_or(std::vector<LayerMeta>())) {
    limits_.layers[layer.layer] = {.top_k = layer.top_k.value_or(0),
                                   .ids = meta_.ids_of(layer.layer).value_or(0)};
  }
  scanner_.set_limits(limits_);
  parser_.set_limits(limits_);
}

FileParser::Taken FileParser::fail(Error error) {
  error_ = std::move(error);
  return Taken::kWrong;
}

void FileParser::begin_without_lines(Meta meta) {
  begun_ = true;
  meta_ = std::move(meta);
  set_limits();
}

// The short way for nearly all lines, the general way for the rest.
FileParser::Taken FileParser::take(std::string_view line, uint64_t number, Content& content) {
  auto* route = std::get_if<Route>(&content);
  if (route == nullptr) route = &content.emplace<Route>();
  if (!scanner_.scan(line, *route)) return take_other(line, number, content);
  note(*route);
  return Taken::kContent;
}

FileParser::Taken FileParser::take_last(std::string_view line, uint64_t number, Content& content,
                                        bool& unfinished) {
  const std::string_view shown = without_mark(line);
  unfinished = false;
  if (is_blank_text(shown)) return Taken::kNothing;
  const bool closed = is_closed_object(shown);
  if (!closed && !begun_ && !shown.starts_with('{')) return fail(not_a_trace(line));
  const Taken taken = closed ? take(line, number, content) : Taken::kNothing;
  unfinished = !closed || (taken == Taken::kWrong && error_.code == ErrorCode::kBadJson);
  return unfinished ? Taken::kNothing : taken;
}

FileParser::Taken FileParser::take_other(std::string_view line, uint64_t number, Content& content) {
  line = without_mark(line);
  if (is_blank_text(line)) return Taken::kNothing;
  if (!parser_.parse(line, content)) {
    const Error& why = parser_.error();
    return fail(!begun_ && why.code == ErrorCode::kBadJson ? not_a_trace(line) : why);
  }
  if (const auto* route = std::get_if<Route>(&content)) {
    begun_ = true;
    if (meta_.top_k == 0) {
      meta_.top_k = static_cast<uint32_t>(route->expert_ids.size());
      set_limits();
    }
    note(*route);
    return Taken::kContent;
  }
  const auto* unknown = std::get_if<Unknown>(&content);
  if (unknown != nullptr && unknown->type == "meta") return take_meta(line, number);
  if (!begun_) {
    return fail({ErrorCode::kNoMeta, "its first line is neither a meta line nor a row"});
  }
  const auto* end = std::get_if<End>(&content);
  if (end != nullptr && end->status == "continued") meta_lines_.insert(number + 1);
  return Taken::kContent;
}

FileParser::Taken FileParser::take_meta(std::string_view line, uint64_t number) {
  auto parsed = parse_meta(line);
  if (!parsed) return fail(parsed.error());
  if (given_experts_ && parsed->num_experts && *given_experts_ != *parsed->num_experts) {
    return fail({ErrorCode::kOtherExperts, "the trace has " + text(*parsed->num_experts) +
                                               " experts, not " + text(*given_experts_)});
  }
  if (!begun_ && !parsed->plain()) {
    begun_ = true;
    meta_lines_.insert(number);
    meta_ = std::move(*parsed);
    set_limits();
    return Taken::kNothing;
  }
  if (begun_ && parsed->plain() != meta_.plain()) {
    return fail(one_file_each(parsed->plain() ? "a plain log begins here, after a trace"
                                              : "a trace begins here, after a plain log"));
  }
  if (!meta_.plain()) {
    const bool next_part = meta_lines_.contains(number) && parsed->trace_id == meta_.trace_id;
    const bool again = number == *meta_lines_.begin();
    if (next_part && (again || (!parsed->rows && !meta_.rows))) return Taken::kNothing;
    if (next_part) return fail(one_file_each("a part begins here whose rows are in another file"));
    return fail(one_file_each("a second trace begins here"));
  }
  begun_ = true;
  return merge(*parsed) ? Taken::kNothing : Taken::kWrong;
}

template <class T>
bool FileParser::contradicts(const char* key, const std::optional<T>& known,
                             const std::optional<T>& now) {
  if (!known || !now || *known == *now) return false;
  fail(contradiction(key, text(*now), text(*known)));
  return true;
}

bool FileParser::outnumbered(const char* key, std::optional<uint32_t> now, uint32_t seen) {
  if (!now || *now >= seen) return false;
  fail(contradiction(key, text(*now), "at least " + text(seen) + " in the rows"));
  return true;
}

// All or nothing, because lines may be taken again after an error.
bool FileParser::merge(Meta& now) {
  if (now.top_k != 0 && meta_.top_k != 0 && now.top_k != meta_.top_k) {
    fail(contradiction("top_k", text(now.top_k), text(meta_.top_k)));
    return false;
  }
  if (contradicts("model_id", meta_.model_id, now.model_id) ||
      contradicts("num_experts", meta_.num_experts, now.num_experts) ||
      contradicts("num_layers", meta_.num_layers, now.num_layers) ||
      outnumbered("num_experts", now.num_experts, experts_seen_) ||
      outnumbered("num_layers", now.num_layers, layers_seen_)) {
    return false;
  }
  if (!meta_.model_id) meta_.model_id = now.model_id;
  if (!meta_.num_experts) meta_.num_experts = now.num_experts;
  if (!meta_.num_layers) meta_.num_layers = now.num_layers;
  for (const uint16_t layer : now.layers_logged) {
    if (std::ranges::count(meta_.layers_logged, layer) == 0) meta_.layers_logged.push_back(layer);
  }
  if (meta_.text.empty()) {
    now.model_id = std::move(meta_.model_id);
    now.num_experts = meta_.num_experts;
    now.num_layers = meta_.num_layers;
    now.layers_logged = std::move(meta_.layers_logged);
    now.top_k = std::max(now.top_k, meta_.top_k);
    meta_ = std::move(now);
  } else {
    meta_.top_k = std::max(now.top_k, meta_.top_k);
  }
  set_limits();
  return true;
}

void FileParser::note(const Route& route) {
  if (!meta_.num_layers) layers_seen_ = std::max<uint32_t>(layers_seen_, route.layer + 1U);
  if (meta_.num_experts || given_experts_) return;
  for (const uint16_t id : route.expert_ids) {
    if (id != kNoExpert) experts_seen_ = std::max<uint32_t>(experts_seen_, id + 1U);
  }
}

void FileParser::note(const RowRun& run) {
  if (!meta_.num_layers) {
    for (const uint16_t layer : run.layer)
      layers_seen_ = std::max<uint32_t>(layers_seen_, layer + 1U);
  }
  if (meta_.num_experts || given_experts_) return;
  for (const uint16_t id : run.expert_ids) {
    if (id != kNoExpert) experts_seen_ = std::max<uint32_t>(experts_seen_, id + 1U);
  }
}

}  // namespace moetrace::trace
