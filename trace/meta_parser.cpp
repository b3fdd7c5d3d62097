#include "trace/meta_parser.hpp"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

namespace moetrace::trace {
namespace {

using nlohmann::json;

constexpr std::string_view kSchema = "moetrace/1";

// Reads keys of one object and remembers the first thing that was wrong.
class MetaReader {
 public:
  explicit MetaReader(const json& object) : object_(object) {}

  // Absent and null are the same here: not known.
  void text(const char* key, std::optional<std::string>& out) {
    const json* value = find(key);
    if (value == nullptr) return;
    if (!value->is_string()) return fail(key, "must be a string or null");
    out = value->get<std::string>();
  }

  void text(const char* key, std::string& out) {
    std::optional<std::string> value;
    text(key, value);
    if (value) out = *value;
  }

  template <class T>
  void whole(const char* key, std::optional<T>& out, T low, T high) {
    const json* value = find(key);
    if (value == nullptr) return;
    out = in_range(key, *value, low, high);
  }

  template <class T>
  void whole(const char* key, T& out, T low, T high) {
    std::optional<T> value;
    whole(key, value, low, high);
    if (value) out = *value;
  }

  void number(const char* key, std::optional<double>& out) {
    const json* value = find(key);
    if (value == nullptr) return;
    if (!value->is_number()) return fail(key, "must be a number or null");
    out = value->get<double>();
  }

  void truth(const char* key, std::optional<bool>& out) {
    const json* value = find(key);
    if (value == nullptr) return;
    if (!value->is_boolean()) return fail(key, "must be true, false or null");
    out = value->get<bool>();
  }

  void layers(const char* key, std::vector<uint16_t>& out) {
    const json* value = find(key);
    if (value == nullptr) return;
    if (!value->is_array()) return fail(key, "must be a list of layers");
    for (const json& element : *value) {
      const auto layer = in_range<uint16_t>(key, element, 0, kMaxLayers - 1);
      if (!layer) return;
      out.push_back(*layer);
    }
  }

  void texts(const char* key, std::vector<std::string>& out) {
    const json* value = find(key);
    if (value == nullptr) return;
    const auto is_text = [](const json& element) { return element.is_string(); };
    if (!value->is_array() || !std::all_of(value->begin(), value->end(), is_text)) {
      return fail(key, "must be a list of strings");
    }
    out = value->get<std::vector<std::string>>();
  }

  // The object under `key`, or an empty one.
  const json& object(const char* key) {
    static const json kNothing = json::object();
    const json* value = find(key);
    if (value == nullptr) return kNothing;
    if (value->is_object()) return *value;
    fail(key, "must be an object");
    return kNothing;
  }

  void require(const char* key) {
    if (find(key) == nullptr && why_.empty()) {
      why_ = "the meta line has no \"" + std::string(key) + "\"";
    }
  }

  void fail(const std::string& key, const std::string& what) {
    if (why_.empty()) why_ = "\"" + key + "\" in the meta line " + what;
  }

  [[nodiscard]] const std::string& why() const { return why_; }

 private:
  [[nodiscard]] const json* find(const char* key) const {
    const auto found = object_.find(key);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }

  template <class T>
  std::optional<T> in_range(const char* key, const json& value, T low, T high) {
    const bool fits = value.is_number_unsigned()
                          ? std::in_range<T>(value.get<uint64_t>()) && value.get<T>() >= low &&
                                value.get<T>() <= high
                          : value.is_number_integer() && std::in_range<T>(value.get<int64_t>()) &&
                                value.get<T>() >= low && value.get<T>() <= high;
    if (fits) return value.get<T>();
    fail(key, "must be a whole number from " + std::to_string(low) + " to " + std::to_string(high));
    return std::nullopt;
  }

  const json& object_;
  std::string why_;
};

// A trace must not make its reader open files elsewhere.
bool is_base_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\0", 2)) == std::string::npos;
}

}  // namespace

Result<Meta> parse_meta(std::string_view text) {
  const json document = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (document.is_discarded()) return Error{ErrorCode::kBadJson, "not JSON"};

  constexpr uint32_t kMaxRank = std::numeric_limits<uint32_t>::max();
  Meta meta;
  MetaReader keys(document);
  keys.text("schema", meta.schema);
  if (!meta.plain() && meta.schema != kSchema) {
    return Error{ErrorCode::kBadMeta,
                 "schema \"" + meta.schema + "\" is not known here (this reads moetrace/1)",
                 "use the moetrace that has written it"};
  }
  if (!meta.plain()) {
    for (const char* key : {"top_k", "layers_logged", "num_experts", "trace_id"}) keys.require(key);
  }
  keys.text("model_id", meta.model_id);
  keys.text("vllm_version", meta.vllm_version);
  keys.text("torch_version", meta.torch_version);
  keys.text("device", meta.device);
  keys.whole<int64_t>("seed", meta.seed, std::numeric_limits<int64_t>::min(),
                      std::numeric_limits<int64_t>::max());
  keys.layers("layers_logged", meta.layers_logged);
  keys.whole<uint32_t>("top_k", meta.top_k, 1, kMaxTopK);
  keys.whole<uint32_t>("num_experts", meta.num_experts, 1, kMaxExperts);
  keys.text("trace_id", meta.trace_id);
  keys.text("engine", meta.engine);
  keys.text("engine_version", meta.engine_version);
  keys.whole<uint32_t>("num_layers", meta.num_layers, 1, kMaxLayers);
  keys.whole<uint32_t>("rank", meta.rank, 0, kMaxRank);
  keys.whole<uint32_t>("world_size", meta.world_size, 1, kMaxRank);
  keys.text("host", meta.host);
  keys.number("created_at", meta.created_at);
  keys.whole<uint64_t>("sample_every", meta.sample_every, 0, std::numeric_limits<uint64_t>::max());
  keys.texts("notes", meta.notes);

  MetaReader router(keys.object("router"));
  router.text("score", meta.router.score);
  router.truth("renormalized", meta.router.renormalized);
  router.number("scaling", meta.router.scaling);
  router.truth("biased", meta.router.biased);
  router.whole<uint32_t>("groups", meta.router.groups, 1, kMaxExperts);
  router.whole<uint32_t>("topk_groups", meta.router.topk_groups, 1, kMaxExperts);
  MetaReader rows_keys(keys.object("rows"));
  if (!meta.plain() && document.contains("rows")) {
    RowsMeta& to = meta.rows.emplace();
    rows_keys.text("file", to.file);
    if (!is_base_name(to.file))
      rows_keys.fail("file", "must be the name of a file beside this one");
    rows_keys.text("weights", to.weights);
    std::optional<bool> wide;
    rows_keys.truth("wide", wide);
    to.wide = wide.value_or(false);
  }
  MetaReader ranks(keys.object("ranks"));
  ranks.whole<uint32_t>("tp", meta.ranks.tp, 0, kMaxRank);
  ranks.whole<uint32_t>("dp", meta.ranks.dp, 0, kMaxRank);
  ranks.whole<uint32_t>("pp", meta.ranks.pp, 0, kMaxRank);
  ranks.whole<uint32_t>("ep", meta.ranks.ep, 0, kMaxRank);

  for (const MetaReader* part : {&keys, &router, &rows_keys, &ranks}) {
    if (!part->why().empty()) return Error{ErrorCode::kBadMeta, part->why()};
  }
  meta.text = text;
  return meta;
}

}  // namespace moetrace::trace
