#include "producer/settings.hpp"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <optional>
#include <string_view>

#include "producer/ring_size.hpp"
#include "shm/header_check.hpp"
#include "shm/layer_mask.hpp"
#include "shm/ring_access.hpp"
#include "shm/segment_names.hpp"

namespace moetrace {
namespace {

// The variable's value; std::nullopt if it is unset or empty.
std::optional<std::string_view> environment(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') return std::nullopt;
  return value;
}

// `reason`: why the value is wrong, and what to use instead.
Error invalid(const std::string& name, std::string_view value, const std::string& reason) {
  return {ErrorCode::kBadArgument,
          "invalid value '" + std::string(value) + "' for " + name + ": " + reason};
}

// `lower`: in lower case.
bool equal_ignoring_case(std::string_view text, std::string_view lower) {
  return std::ranges::equal(text, lower, {},
                            [](char c) { return c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c; });
}

template <std::size_t N>
void copy_text(char (&to)[N], const char* from) {
  if (from == nullptr) return;
  std::size_t length = std::min(std::strlen(from), N - 1);
  // Cut before a UTF-8 sequence, never inside one.
  if (from[length] != '\0') {
    while (length > 0 && (static_cast<unsigned char>(from[length]) & 0xC0) == 0x80) --length;
  }
  std::memcpy(to, from, length);
  to[length] = '\0';
}

Result<RingSize> ring_size(const moetrace_options& options, const std::string& directory,
                           const moetrace_ring_header& header) {
  double mb = options.ring_mb;
  std::string source = "ring_mb";
  std::string text = std::to_string(mb);
  if (mb == 0) {
    const auto set = environment("MOETRACE_RING_MB");
    if (!set) return chosen_ring_size(directory, header, options.largest_step);
    source = "MOETRACE_RING_MB";
    text = *set;
    const auto [end, failed] = std::from_chars(set->data(), set->data() + set->size(), mb);
    if (failed != std::errc{} || end != set->data() + set->size()) mb = -1;
  }
  if (!(mb > 0) || mb > 1024 * 1024)
    return invalid(source, text,
                   "expected a size in MiB up to 1048576; use 64 or 0.5, for example");
  return wanted_ring_size(mb, source, directory, header, options.largest_step);
}

struct LayerChoice {
  moetrace_layer_mask layers;
  // One line; empty if every named layer can be recorded.
  std::string warning;
};

// The requested layers of `moe`, the layers that can be recorded.
Result<LayerChoice> chosen_layers(const moetrace_options& options, const moetrace_layer_mask& moe) {
  std::string source = "layers";
  std::string_view text = "all";
  if (options.layers != nullptr) {
    text = options.layers;
  } else if (const auto set = environment("MOETRACE_LAYERS")) {
    source = "MOETRACE_LAYERS";
    text = *set;
  } else if (const auto single = environment("VLLM_LOG_MOE_LAYER")) {
    source = "VLLM_LOG_MOE_LAYER";
    text = *single;
  }
  const auto mask = parse_layers(text, options.num_layers);
  if (text != "all" && count_layers(moe) == 0) {
    return invalid(source, text,
                   "the model has no MoE layers to record; leave it out, or check the engine's "
                   "option moe_layers");
  }
  if (!mask) {
    return invalid(source, text,
                   "the MoE layers are " + format_layers(moe) +
                       "; use some of these as numbers and ranges, such as 0,5-7, or all");
  }
  const moetrace_layer_mask layers = intersect(*mask, moe), others = without(*mask, moe);
  if (text == "all" || count_layers(others) == 0) return LayerChoice{layers, ""};
  const std::string moe_layers = format_layers(moe);
  if (count_layers(layers) == 0) {
    return invalid(source, text,
                   "none of these layers has experts; use some of " + moe_layers + ", or all");
  }
  return LayerChoice{layers, source + " '" + std::string(text) +
                                 "': left out layers without experts (" + format_layers(others) +
                                 "); the MoE layers are " + moe_layers};
}

Result<std::uint32_t> sampling(const moetrace_options& options) {
  constexpr std::int64_t kMost = std::numeric_limits<std::uint32_t>::max();
  std::int64_t every = options.sample_every;
  if (every < 0) {
    const auto set = environment("MOETRACE_SAMPLE");
    if (!set) return 1u;
    const auto [end, failed] = std::from_chars(set->data(), set->data() + set->size(), every);
    if (failed != std::errc{} || end != set->data() + set->size() || every < 0 || every > kMost) {
      return invalid("MOETRACE_SAMPLE", *set,
                     "expected an integer from 0 to 4294967295; use 1 for every step, n for every "
                     "nth, 0 to count only");
    }
  }
  if (every > kMost) {
    return invalid("sample_every", std::to_string(every),
                   "expected at most 4294967295; use 1 for every step, n for every nth");
  }
  return static_cast<std::uint32_t>(every);
}

// Joins the non-empty texts into one line.
std::string join_sentences(std::initializer_list<std::string> texts) {
  std::string line;
  for (const std::string& text : texts) {
    if (!line.empty() && !text.empty()) line += ". ";
    line += text;
  }
  return line;
}

}  // namespace

Result<bool> tracing_wanted() {
  const auto set = environment("MOETRACE");
  if (!set) return false;
  for (const std::string_view off : {"0", "no", "false", "off"}) {
    if (equal_ignoring_case(*set, off)) return false;
  }
  for (const std::string_view on : {"1", "yes", "true", "on"}) {
    if (equal_ignoring_case(*set, on)) return true;
  }
  return invalid("MOETRACE", *set,
                 "tracing stays off; use 1, yes, true or on, or 0, no, false or off");
}

Result<Settings> resolve_settings(const moetrace_options& options) {
  if (options.num_layers == 0 || options.num_layers > MOETRACE_MAX_LAYERS) {
    return invalid("num_layers", std::to_string(options.num_layers),
                   "expected the model's number of layers, 1 to 256");
  }
  if (options.num_experts == 0 || options.num_experts > MOETRACE_MAX_EXPERTS) {
    return invalid("num_experts", std::to_string(options.num_experts),
                   "expected the routed experts of a layer, 1 to 65535");
  }
  if (options.top_k == 0 || options.top_k > MOETRACE_MAX_TOP_K) {
    return invalid("top_k", std::to_string(options.top_k), "expected the experts per row, 1 to 32");
  }
  if (!std::isfinite(options.router_scaling))
    return invalid("router_scaling", std::to_string(options.router_scaling),
                   "expected a finite number; use 1 if the weights are not scaled");
  moetrace_layer_mask moe_layers = first_layers(options.num_layers);
  if (options.moe_layers != nullptr) moe_layers = intersect(moe_layers, *options.moe_layers);
  const auto choice = chosen_layers(options, moe_layers);
  if (!choice) return choice.error();
  const auto sample_every = sampling(options);
  if (!sample_every) return sample_every.error();

  Settings settings;
  settings.directory = options.directory != nullptr && *options.directory != '\0'
                           ? options.directory
                           : default_ring_directory();
  settings.session = options.session != nullptr
                         ? options.session
                         : std::string(environment("MOETRACE_SESSION").value_or("default"));

  moetrace_ring_header& h = settings.header;
  if (options.cuda_device >= 0) {
    settings.cuda_device = options.cuda_device;
    h.claimer = MOETRACE_CLAIMER_GPU;
  }
  h.top_k = options.top_k;
  h.num_layers = options.num_layers;
  h.num_experts = options.num_experts;
  h.moe_layers = moe_layers;
  h.layers_logged = choice->layers;
  h.sample_every = *sample_every;
  const auto ring = ring_size(options, settings.directory, h);
  if (!ring) return ring.error();
  settings.sizes = ring->sizes;
  settings.ring_text = ring->text;
  settings.warning =
      join_sentences({choice->warning, ring->warning, ring_access(settings.directory).warning});
  if (options.has_seed != 0) {
    h.flags |= MOETRACE_HAS_SEED;
    h.seed = options.seed;
  }
  if (options.router_score != nullptr) h.flags |= MOETRACE_ROUTER_KNOWN;
  if (options.router_renormalized != 0) h.flags |= MOETRACE_ROUTER_RENORMALIZED;
  if (options.router_biased != 0) h.flags |= MOETRACE_ROUTER_BIASED;
  h.router_scaling = options.router_scaling;
  h.router_groups = options.router_groups;
  h.router_topk_groups = options.router_topk_groups;
  h.rank = options.rank;
  h.world_size = options.world_size;
  h.tp_rank = options.tp_rank;
  h.dp_rank = options.dp_rank;
  h.pp_rank = options.pp_rank;
  h.ep_rank = options.ep_rank;
  copy_text(h.model_id, options.model_id);
  copy_text(h.engine, options.engine);
  copy_text(h.engine_version, options.engine_version);
  copy_text(h.vllm_version, options.vllm_version);
  copy_text(h.torch_version, options.torch_version);
  copy_text(h.device, options.device);
  copy_text(h.router_score, options.router_score);
  copy_text(h.notes, options.notes);
  const auto engine_id = environment("MOETRACE_ENGINE_ID");
  copy_text(h.engine_id,
            options.engine_id != nullptr || !engine_id ? options.engine_id : engine_id->data());
  if (options.layer_table != nullptr) {
    settings.layers.assign(options.layer_table, options.layer_table + options.num_layers);
    for (moetrace_layer_entry& entry : settings.layers) terminate_strings(entry);
    if (const auto wrong = check_layer_table(h, settings.layers)) {
      return Error{ErrorCode::kBadArgument,
                   "options: " + *wrong + "; correct the entry, or leave it zero"};
    }
  }
  ::gethostname(h.host, sizeof h.host - 1);
  return settings;
}

}  // namespace moetrace
