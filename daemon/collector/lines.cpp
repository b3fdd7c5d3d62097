#include "daemon/collector/lines.hpp"

#include <nlohmann/json.hpp>
#include <sstream>
#include <vector>

#include "shm/layer_mask.hpp"

namespace moetrace {
namespace {

std::optional<std::uint32_t> known(std::uint32_t tokens) {
  if (tokens == MOETRACE_UNKNOWN_TOKENS) return std::nullopt;
  return tokens;
}

// [0,5,6]
std::string layer_list(const moetrace_layer_mask& mask) {
  std::string text = "[";
  for (std::uint32_t layer = 0; layer < MOETRACE_MAX_LAYERS; ++layer) {
    if (!has_layer(mask, layer)) continue;
    if (text.size() > 1) text += ',';
    text += std::to_string(layer);
  }
  return text + "]";
}

std::vector<std::string> lines_of(const char* text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);)
    if (!line.empty()) lines.push_back(line);
  return lines;
}

using nlohmann::ordered_json;

// An empty text is unknown.
ordered_json text_or_null(const char* value) {
  return *value == '\0' ? ordered_json(nullptr) : ordered_json(value);
}

ordered_json known_if(bool known, const ordered_json& value) {
  return known ? value : ordered_json(nullptr);
}

ordered_json layer_object(std::uint32_t layer, const moetrace_layer_entry& entry) {
  const auto has = [&](std::uint32_t flag) { return (entry.flags & flag) != 0; };
  const bool groups = has(MOETRACE_LAYER_GROUPS_KNOWN);
  return {{"layer", layer},
          {"experts", known_if(entry.experts != 0, entry.experts)},
          {"zero_experts", known_if(has(MOETRACE_LAYER_ZERO_EXPERTS_KNOWN), entry.zero_experts)},
          {"top_k", known_if(entry.top_k != 0, entry.top_k)},
          {"score", text_or_null(entry.score)},
          {"renormalized",
           known_if(has(MOETRACE_LAYER_RENORMALIZED_KNOWN), has(MOETRACE_LAYER_RENORMALIZED))},
          {"scaling", known_if(has(MOETRACE_LAYER_SCALING_KNOWN), entry.scaling)},
          {"biased", known_if(has(MOETRACE_LAYER_BIASED_KNOWN), has(MOETRACE_LAYER_BIASED))},
          {"groups", known_if(groups, entry.groups)},
          {"topk_groups", known_if(groups, entry.topk_groups)},
          {"table", known_if(has(MOETRACE_LAYER_TABLE_KNOWN), has(MOETRACE_LAYER_TABLE))}};
}

// The MoE layers of a model; null if its producer declared nothing about any layer.
ordered_json layers_of(const moetrace_layer_mask& moe_layers, const LayerTable& layers) {
  if (!layers.declared()) return nullptr;
  ordered_json list = ordered_json::array();
  for (std::uint32_t layer = 0; layer < layers.num_layers(); ++layer) {
    if (has_layer(moe_layers, layer)) list.push_back(layer_object(layer, layers.entry(layer)));
  }
  return list;
}

}  // namespace

std::string json_string(std::string_view text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string meta_line(const moetrace_ring_header& h, const LayerTable& layers,
                      const std::string& trace_id) {
  ordered_json meta;
  meta["type"] = "meta";
  meta["model_id"] = text_or_null(h.model_id);
  meta["vllm_version"] = text_or_null(h.vllm_version);
  meta["torch_version"] = text_or_null(h.torch_version);
  meta["device"] = text_or_null(h.device);
  meta["seed"] = (h.flags & MOETRACE_HAS_SEED) != 0 ? ordered_json(h.seed) : ordered_json(nullptr);
  meta["layers_logged"] = ordered_json::parse(layer_list(h.layers_logged));
  meta["top_k"] = h.top_k;
  meta["num_experts"] = h.num_experts;
  meta["schema"] = "moetrace/1";
  meta["trace_id"] = trace_id;
  meta["engine"] = text_or_null(h.engine);
  meta["engine_version"] = text_or_null(h.engine_version);
  meta["num_layers"] =
      (h.flags & MOETRACE_LAYERS_UNKNOWN) == 0 ? ordered_json(h.num_layers) : ordered_json(nullptr);
  if ((h.flags & MOETRACE_ROUTER_KNOWN) != 0) {
    meta["router"] = {{"score", text_or_null(h.router_score)},
                      {"renormalized", (h.flags & MOETRACE_ROUTER_RENORMALIZED) != 0},
                      {"scaling", h.router_scaling}};
    if ((h.flags & MOETRACE_ROUTER_BIASED) != 0) meta["router"]["biased"] = true;
    if (h.router_groups != 0) {
      meta["router"]["groups"] = h.router_groups;
      meta["router"]["topk_groups"] = h.router_topk_groups;
    }
  } else {
    meta["router"] = nullptr;
  }
  if ((h.flags & MOETRACE_RANKS_UNKNOWN) == 0) {
    meta["rank"] = h.rank;
    meta["world_size"] = h.world_size;
    meta["ranks"] = {{"tp", h.tp_rank}, {"dp", h.dp_rank}, {"pp", h.pp_rank}, {"ep", h.ep_rank}};
  } else {
    for (const char* key : {"rank", "world_size", "ranks"}) meta[key] = nullptr;
  }
  meta["host"] = text_or_null(h.host);
  meta["created_at"] = static_cast<double>(h.created_realtime_ns) / 1e9;
  meta["sample_every"] = h.sample_every;
  if (*h.notes != '\0') meta["notes"] = lines_of(h.notes);
  if (h.abi_minor >= 3) {
    meta["engine_id"] = text_or_null(h.engine_id);
    meta["layers"] = layers_of(h.moe_layers, layers);
  }
  return meta.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

void append_start(LineBuffer& out, std::uint64_t part, const RunningTotals& t, std::uint64_t event,
                  std::optional<std::uint64_t> step) {
  if (part == 1) {
    out.append("{\"type\":\"base\"");
  } else {
    out.append("{\"type\":\"part\",\"part\":", part);
  }
  out.append(",\"seq\":", t.next_seq(), ",\"event\":", event, ",\"step\":", step,
             ",\"open\":", t.open(), ",\"dropped_total\":", t.dropped(),
             ",\"attempted_total\":", t.attempted(), ",\"delivered_total\":", t.delivered(),
             ",\"filtered_total\":", t.filtered(), ",\"torn_total\":", t.torn(),
             ",\"event_lost_total\":", t.event_lost(), "}\n");
}

void append_request(LineBuffer& out, const RequestEvent& r, std::optional<std::uint64_t> event) {
  out.append("{\"type\":\"request\",\"req_id\":", json_string(r.id),
             ",\"prompt_tokens\":", known(r.prompt_tokens),
             ",\"cached_tokens\":", known(r.cached_tokens), ",\"request\":", r.request,
             ",\"event\":", event, "}\n");
}

void append_request_end(LineBuffer& out, const RequestEndEvent& end, const std::string& json_id,
                        std::uint64_t event) {
  out.append("{\"type\":\"request_end\",\"req_id\":", json_id,
             ",\"generated_tokens\":", known(end.generated_tokens),
             ",\"status\":", json_string(end.status), ",\"request\":", end.request,
             ",\"event\":", event, "}\n");
}

void append_step(LineBuffer& out, const StepEvent& step, std::optional<std::int64_t> time_ns,
                 const RunningTotals& t, std::uint64_t event) {
  out.append("{\"type\":\"step\",\"step\":", step.step, ",\"rows\":", step.rows,
             ",\"layers\":", step.layers, ",\"time_ns\":", time_ns, ",\"seq\":", t.next_seq(),
             ",\"dropped_total\":", t.dropped(), ",\"event\":", event,
             ",\"attempted_total\":", t.attempted(), ",\"delivered_total\":", t.delivered(),
             ",\"filtered_total\":", t.filtered(), ",\"torn_total\":", t.torn(),
             ",\"event_lost_total\":", t.event_lost(), "}\n");
}

void append_control(LineBuffer& out, const ControlEvent& control, std::uint64_t event,
                    std::string_view reason) {
  out.append("{\"type\":\"control\",\"layers\":", layer_list(control.layers),
             ",\"sample_every\":", control.sample_every, ",\"from_step\":", control.from_step,
             ",\"enabled\":", std::string_view(control.enabled ? "true" : "false"),
             ",\"event\":", event);
  if (!reason.empty()) out.append(",\"reason\":\"", reason, "\"");
  out.append("}\n");
}

void append_loss(LineBuffer& out, std::uint64_t dropped, const RunningTotals& t,
                 std::string_view cause, std::optional<std::uint64_t> after_seq) {
  out.append("{\"type\":\"loss\",\"dropped\":", dropped, ",\"dropped_total\":", t.dropped(),
             ",\"cause\":\"", cause, "\",\"after_seq\":", after_seq,
             ",\"event_lost_total\":", t.event_lost(), "}\n");
}

void append_torn(LineBuffer& out, std::optional<std::uint64_t> first_seq, std::uint64_t count) {
  out.append("{\"type\":\"torn\",\"first_seq\":", first_seq, ",\"count\":", count, "}\n");
}

void append_end(LineBuffer& out, const RunningTotals& t, std::string_view status,
                const std::optional<Cost>& cost, const std::optional<RingUse>& use,
                std::uint64_t open) {
  std::optional<std::uint64_t> announce_ns;
  std::optional<std::uint64_t> hook_ns;
  if (cost) {
    announce_ns = cost->announce_ns;
    hook_ns = cost->hook_ns;
  }
  out.append("{\"type\":\"end\",\"attempted\":", t.attempted(), ",\"delivered\":", t.delivered(),
             ",\"filtered\":", t.filtered(), ",\"dropped\":", t.dropped(), ",\"torn\":", t.torn(),
             ",\"status\":\"", status, "\",\"cost\":{\"announce_ns\":", announce_ns,
             ",\"hook_ns\":", hook_ns, "}");
  if (status == kContinued) out.append(",\"open\":", open);
  if (use)
    out.append(",\"ring\":{\"slots\":", use->slots, ",\"high_water\":", use->high_water, "}");
  out.append("}\n");
}

void add_at_seq(LineBuffer& out, std::uint64_t at_seq) {
  constexpr std::string_view kEnd = "}\n";
  out.cut_to(out.size() - kEnd.size());
  out.append(",\"at_seq\":", at_seq, kEnd);
}

void append_rows(LineBuffer& out, const RunningTotals& t, std::uint64_t bytes,
                 std::uint64_t batches) {
  out.append("{\"type\":\"rows\",\"seq\":", t.next_seq(), ",\"bytes\":", bytes,
             ",\"batches\":", batches, ",\"delivered_total\":", t.delivered(),
             ",\"filtered_total\":", t.filtered(), "}\n");
}

namespace {
constexpr std::string_view kBeforeId = "{\"type\":\"route\",\"req_id\":";
constexpr std::string_view kAfterId = ",\"token_idx\":";
}  // namespace

RouteOrigin route_origin(const std::string& json_id, std::optional<std::uint64_t> request) {
  return {request, std::string(kBeforeId) + json_id + std::string(kAfterId),
          "],\"request\":" + (request ? std::to_string(*request) : "null") + ",\"step\":"};
}

std::string_view RouteOrigin::json_id() const {
  return std::string_view(prefix).substr(kBeforeId.size(),
                                         prefix.size() - kBeforeId.size() - kAfterId.size());
}

}  // namespace moetrace
