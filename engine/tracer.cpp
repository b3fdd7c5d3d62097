#include "engine/tracer.hpp"

#include <cstdio>

namespace moetrace::engine {

bool Tracer::enabled() {
  return moetrace_enabled() != 0;
}

Tracer::~Tracer() {
  moetrace_close(producer_);
}

uint64_t Tracer::begin_request(const std::string& id, int64_t prompt_tokens) {
  return moetrace_request_begin(producer_, id.c_str(), static_cast<uint32_t>(prompt_tokens), 0);
}

void Tracer::end_request(uint64_t request, int64_t generated_tokens, const char* status) {
  moetrace_request_end(producer_, request, static_cast<uint32_t>(generated_tokens), status);
}

moetrace_totals Tracer::totals() const {
  moetrace_totals totals{};
  totals.size = sizeof totals;
  moetrace_get_totals(producer_, &totals);
  return totals;
}

std::string Tracer::failure() const {
  const char* why = moetrace_failure(producer_);
  return why != nullptr ? why : "";
}

Result<moetrace_producer*> open_producer(const ModelConfig& config, int64_t seed,
                                         const TraceSource& source) {
  if (config.num_layers > static_cast<int64_t>(MOETRACE_MAX_LAYERS)) {
    return Error{ErrorCode::kUnsupported,
                 "the model has " + std::to_string(config.num_layers) +
                     " layers, and a trace holds at most " + std::to_string(MOETRACE_MAX_LAYERS) +
                     "; choose a smaller model, or unset MOETRACE to run without a trace"};
  }
  moetrace_layer_mask moe_layers{};
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    if (config.is_moe_layer(layer)) moe_layers.words[layer / 64] |= uint64_t{1} << (layer % 64);
  }
  moetrace_options options;
  moetrace_options_init(&options, sizeof options);
  options.num_layers = static_cast<uint32_t>(config.num_layers);
  options.num_experts = static_cast<uint32_t>(config.num_experts);
  options.top_k = static_cast<uint32_t>(config.top_k);
  options.moe_layers = &moe_layers;
  options.model_id = config.model_id.c_str();
  options.engine = "moetrace-engine";
  options.engine_version = MOETRACE_VERSION;
  options.torch_version = source.torch_version;
  options.device = source.device;
  options.cuda_device = source.cuda_device;
  options.has_seed = 1;
  options.seed = seed;
  options.router_score = "softmax";
  options.router_renormalized = config.norm_topk_prob ? 1 : 0;
  options.router_scaling = 1.0;
  char why[512] = "";
  moetrace_producer* producer = moetrace_open(&options, why, sizeof why);
  if (producer == nullptr) return Error{ErrorCode::kFailed, why};
  if (*why != '\0') std::fprintf(stderr, "moetrace-engine: %s\n", why);
  if (const char* line = moetrace_no_collector(producer); line != nullptr)
    std::fprintf(stderr, "moetrace-engine: %s\n", line);
  return producer;
}

}  // namespace moetrace::engine
