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

// One entry of "layers"; `meta` has top_k and num_experts. Returns what is wrong, or "".
std::string read_layer(const json& entry, const Meta& meta, LayerMeta& layer) {
  if (!entry.is_object()) return "must be a list of objects";
  MetaReader keys(entry);
  std::optional<uint16_t> number;
  keys.whole<uint16_t>("layer", number, 0, kMaxLayers - 1);
  keys.whole<uint32_t>("experts", layer.experts, 1, kMaxExperts);
  keys.whole<uint32_t>("zero_experts", layer.zero_experts, 0, kMaxExperts);
  keys.whole<uint32_t>("top_k", layer.top_k, 1, meta.top_k);
  keys.text("score", layer.score);
  keys.truth("renormalized", layer.renormalized);
  keys.number("scaling", layer.scaling);
  keys.truth("biased", layer.biased);
  keys.whole<uint32_t>("groups", layer.groups, 1, kMaxExperts);
  keys.whole<uint32_t>("topk_groups", layer.topk_groups, 1, kMaxExperts);
  keys.truth("table", layer.table);
  if (!keys.why().empty()) return "has an entry that is wrong: " + keys.why();
  if (!number) return "has an entry without \"layer\"";
  layer.layer = *number;
  if (layer.experts.value_or(0) + layer.zero_experts.value_or(0) > meta.num_experts.value_or(0))
    return "has layer " + std::to_string(*number) + " with more experts than \"num_experts\"";
  return {};
}

// Only of a trace: a plain log may mean something else by the key.
std::string read_layers(const json& document, Meta& meta) {
  const auto found = document.find("layers");
  if (found == document.end() || found->is_null()) return {};
  if (!found->is_array()) return "must be a list of objects or null";
  std::vector<LayerMeta>& layers = meta.layers.emplace();
  for (const json& entry : *found) {
    const int before = layers.empty() ? -1 : layers.back().layer;
    if (std::string why = read_layer(entry, meta, layers.emplace_back()); !why.empty()) return why;
    if (layers.back().layer <= before) return "must rise by \"layer\"";
  }
  return {};
}

}  // namespace

const LayerMeta* Meta::declared(uint16_t layer) const {
  if (!layers) return nullptr;
  const auto found = std::ranges::lower_bound(*layers, layer, {}, &LayerMeta::layer);
  return found == layers->end() || found->layer != layer ? nullptr : &*found;
}

uint32_t Meta::top_k_of(uint16_t layer) const {
  const LayerMeta* const of = declared(layer);
  return of == nullptr ? top_k : of->top_k.value_or(top_k);
}

std::optional<uint32_t> Meta::ids_of(uint16_t layer) const {
  const LayerMeta* const of = declared(layer);
  if (of == nullptr || !of->experts || !of->zero_experts) return num_experts;
  return *of->experts + *of->zero_experts;
}

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
  if (!meta.plain()) {
    keys.text("engine_id", meta.engine_id);
    if (keys.why().empty()) {
      if (const std::string why = read_layers(document, meta); !why.empty())
        keys.fail("layers", why);
    }
  }

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
