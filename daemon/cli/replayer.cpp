#include "daemon/cli/replayer.hpp"

#include <fcntl.h>

#include <algorithm>
#include <thread>

#include "daemon/cli/layer_entries.hpp"
#include "daemon/cli/log_survey.hpp"
#include "shm/layer_mask.hpp"

namespace moetrace::cli {
namespace {

// How often to check a full ring: a tenth of the time in which a collector drains the smallest
// useful ring (4096 slots).
constexpr auto kPoll = std::chrono::microseconds(100);
// A running collector needs a moment to find a new segment. A ring that is full before the first
// collector attaches waits this long, once.
constexpr auto kGrace = std::chrono::seconds(2);

std::uint32_t tokens(std::optional<std::uint64_t> count) {
  return count && *count < MOETRACE_UNKNOWN_TOKENS ? static_cast<std::uint32_t>(*count)
                                                   : MOETRACE_UNKNOWN_TOKENS;
}

const char* text(const std::optional<std::string>& value) {
  return value ? value->c_str() : nullptr;
}

// The model's layers. A plain log does not say how many: up to the last one that it logged.
std::uint32_t layers_of(const trace::Meta& meta) {
  if (meta.num_layers) return *meta.num_layers;
  if (meta.layers_logged.empty()) return MOETRACE_MAX_LAYERS;
  return *std::max_element(meta.layers_logged.begin(), meta.layers_logged.end()) + 1u;
}

Result<Settings> settings_for(const ReplayOptions& replay, const trace::Meta& meta,
                              std::uint32_t num_experts) {
  moetrace_options options;
  moetrace_options_init(&options, sizeof options);
  moetrace_layer_mask logged{};
  for (const std::uint16_t layer : meta.layers_logged) add_layer(logged, layer);
  // Set them here, so that MOETRACE_LAYERS and MOETRACE_SAMPLE, meant for engines, do not cut a
  // replay.
  const std::string layers = meta.layers_logged.empty() ? "all" : format_layers(logged);
  options.layers = layers.c_str();
  if (!replay.directory.empty()) options.directory = replay.directory.c_str();
  options.sample_every = 1;
  options.num_layers = layers_of(meta);
  const auto entries = layer_entries(meta, options.num_layers);
  if (!entries.empty()) options.layer_table = entries.data();
  moetrace_layer_mask declared{};
  for (const trace::LayerMeta& layer : meta.layers.value_or(std::vector<trace::LayerMeta>()))
    add_layer(declared, layer.layer);
  if (meta.layers) options.moe_layers = &declared;
  // The trace's, never that of MOETRACE_ENGINE_ID.
  options.engine_id = meta.engine_id ? meta.engine_id->c_str() : "";
  options.num_experts = num_experts;
  options.top_k = meta.top_k;
  options.model_id = text(meta.model_id);
  options.engine = text(meta.engine);
  options.engine_version = text(meta.engine_version);
  options.vllm_version = text(meta.vllm_version);
  options.torch_version = text(meta.torch_version);
  options.device = text(meta.device);
  options.has_seed = meta.seed.has_value() ? 1 : 0;
  options.seed = meta.seed.value_or(0);
  if (!meta.router.score.empty()) options.router_score = meta.router.score.c_str();
  options.router_renormalized = meta.router.renormalized.value_or(false) ? 1 : 0;
  options.router_scaling = meta.router.scaling.value_or(1);
  options.router_biased = meta.router.biased.value_or(false) ? 1 : 0;
  options.router_groups = meta.router.groups.value_or(0);
  options.router_topk_groups = meta.router.topk_groups.value_or(0);
  std::string notes;
  for (const std::string& note : meta.notes) notes += note + '\n';
  options.notes = notes.c_str();
  options.rank = meta.rank.value_or(0);
  options.world_size = meta.world_size.value_or(1);
  options.tp_rank = meta.ranks.tp;
  options.dp_rank = meta.ranks.dp;
  options.pp_rank = meta.ranks.pp;
  options.ep_rank = meta.ranks.ep;
  auto settings = resolve_settings(options);
  if (!settings) return settings;
  // The trace of the replay leaves unknown what the log leaves unknown.
  if (!meta.num_layers) settings->header.flags |= MOETRACE_LAYERS_UNKNOWN;
  if (!meta.rank) settings->header.flags |= MOETRACE_RANKS_UNKNOWN;
  return settings;
}

ReplaySteps::Limits limits_for(const SegmentMap& map, const trace::Meta& meta) {
  const moetrace_ring_header& header = map.header();
  ReplaySteps::Limits limits;
  // A layer must fit into the ring. An announcement with its spans (two a slot) must fit into half
  // of the event ring.
  limits.max_rows =
      static_cast<std::uint32_t>(std::min<std::uint64_t>(header.route_slots, 1u << 20));
  limits.max_spans = std::min<std::uint64_t>(MOETRACE_MAX_GROUP_SLOTS, header.event_slots / 2) - 2;
  limits.falling_position_starts_step = meta.plain();
  return limits;
}

}  // namespace

boost::system::result<std::unique_ptr<Replayer>, Failure> Replayer::open(
    const ReplayOptions& options) {
  trace::ReadOptions read;
  read.num_experts = options.num_experts;
  auto reader = trace::TraceReader::open(options.file, read);
  if (!reader) {
    return Failure{kFailed, reader.error().message + "; " + trace::what_to_try(reader.error())};
  }
  const auto surveyed =
      reader->meta().plain() ? survey(options.file, read) : std::optional<trace::Meta>();
  const trace::Meta& meta = surveyed ? *surveyed : reader->meta();
  const auto num_experts = meta.num_experts ? meta.num_experts : options.num_experts;
  if (!num_experts) {
    return Failure{kUsage, trace::shown_name(options.file) +
                               ": it does not say how many experts the model has; give "
                               "--num-experts N"};
  }
  if (meta.top_k == 0) {
    return Failure{kFailed,
                   trace::shown_name(options.file) + ": it has no rows; give a log that has some"};
  }
  const auto settings = settings_for(options, meta, *num_experts);
  if (!settings) return Failure{kFailed, settings.error().message};
  auto producer = RingProducer::open(*settings);
  if (!producer) return Failure{kFailed, producer.error().message};
  std::unique_ptr<Replayer> replayer(
      new Replayer(options, std::move(*reader), std::move(*producer)));
  replayer->warning_ = settings->warning;
  const std::string ctl = settings->directory + "/" + replayer->producer_->name().ctl_file();
  replayer->ctl_ = UniqueFd(::open(ctl.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  return replayer;
}

Replayer::Replayer(const ReplayOptions& options, trace::TraceReader reader,
                   std::unique_ptr<RingProducer> producer)
    : options_(options),
      reader_(std::move(reader)),
      producer_(std::move(producer)),
      steps_(limits_for(producer_->map(), reader_.meta()),
             [this](const ReplayStep& batch) { send(batch); }),
      start_(Clock::now()) {
  totals_.trace_id = producer_->name().trace_id;
}

ReplayTotals Replayer::run() {
  totals_.failure = take_lines();
  totals_.left_out = reader_.left_out();
  steps_.finish_step();
  wait_for_room([](RingProducer& producer) { return producer.requests().flush(); });
  totals_.steps = producer_->announcer().steps();
  totals_.dropped = producer_->hook().dropped() + producer_->announcer().event_lost();
  return totals_;
}

std::string Replayer::take_lines() {
  const auto stopped = [](const std::string& why, const std::string& remedy) {
    return why + "; the lines before it were replayed; " + remedy;
  };
  while (true) {
    const auto line = reader_.next();
    if (!line) return stopped(line.error().message, trace::what_to_try(line.error()));
    if (*line == nullptr) return {};
    const std::string why =
        std::visit([this](const auto& content) { return take(content); }, (*line)->content);
    if (!why.empty()) {
      const std::string number = std::to_string((*line)->number);
      return stopped(trace::shown_name(options_.file) + ": line " + number + ": " + why,
                     "look at it: sed -n " + number + "p FILE");
    }
  }
}

std::string Replayer::take(const trace::Route& route) {
  if (route.layer >= producer_->map().header().num_layers) {
    return "layer " + std::to_string(route.layer) + " is above every layer in layers_logged";
  }
  if (!has_layer(producer_->map().header().moe_layers, route.layer))
    return "layer " + std::to_string(route.layer) + " is not among the \"layers\" of its meta line";
  if (route.step != file_step_) steps_.finish_step();
  file_step_ = route.step;
  RowKey key;
  if (std::string why = row_key(route, key); !why.empty()) return why;
  ++totals_.rows;
  steps_.add(key, route.layer, route.expert_ids, route.weights);
  return {};
}

std::string Replayer::row_key(const trace::Route& route, RowKey& key) {
  if (!route.req_id) {
    if (!route.token_idx) return {};
    key.request = kNamelessRequest;
  }
  key.position = route.token_idx.value_or(MOETRACE_UNKNOWN_POSITION);
  if (!route.req_id) return {};
  if (route.req_id->size() > MOETRACE_MAX_REQUEST_ID) {
    return "its req_id has " + std::to_string(route.req_id->size()) +
           " bytes; a ring carries at most " + std::to_string(MOETRACE_MAX_REQUEST_ID);
  }
  const auto known = route.request ? requests_.find(*route.request) : requests_.end();
  key.request = known != requests_.end() ? known->second : plain_request(*route.req_id);
  return {};
}

// A plain log has no request lines: a request begins with its first row and never ends.
std::uint64_t Replayer::plain_request(std::string_view id) {
  const auto [found, is_new] = plain_requests_.try_emplace(std::string(id), 0);
  if (is_new) found->second = begin_request(id, std::nullopt, std::nullopt);
  return found->second;
}

std::uint64_t Replayer::begin_request(std::string_view id,
                                      std::optional<std::uint64_t> prompt_tokens,
                                      std::optional<std::uint64_t> cached_tokens) {
  const std::uint64_t number =
      producer_->requests().begin(id, tokens(prompt_tokens), tokens(cached_tokens));
  wait_for_room([](RingProducer& producer) { return producer.requests().flush(); });
  return number;
}

std::string Replayer::take(const trace::Request& request) {
  steps_.finish_step();
  requests_.insert_or_assign(
      request.request,
      begin_request(request.req_id.value_or(""), request.prompt_tokens, request.cached_tokens));
  return {};
}

std::string Replayer::take(const trace::RequestEnd& end) {
  steps_.finish_step();
  const auto found = requests_.find(end.request);
  // The request began before the file did.
  if (found == requests_.end()) return {};
  producer_->requests().end(found->second, tokens(end.generated_tokens), end.status.value_or(""));
  wait_for_room([](RingProducer& producer) { return producer.requests().flush(); });
  requests_.erase(found);
  return {};
}

// A step with rows is replayed from its rows; a step that only counts has just this line.
std::string Replayer::take(const trace::Step& step) {
  steps_.finish_step();
  if (step.layers > 0 || step.rows == 0) return {};
  if (step.rows > UINT32_MAX)
    return "a step of " + std::to_string(step.rows) + " rows; a pass has at most " +
           std::to_string(UINT32_MAX);
  wait_for_room(
      [](RingProducer& producer) { return producer.events().fits(Announcer::slots_for(0)); });
  producer_->begin_replayed_step(static_cast<std::uint32_t>(step.rows), {}, {});
  return {};
}

void Replayer::send(const ReplayStep& batch) {
  moetrace_layer_mask layers{};
  for (const std::uint16_t layer : batch.layers) add_layer(layers, layer);
  // One more slot: the layer may need a control event that selects it.
  wait_for_room([&](RingProducer& producer) {
    return producer.events().fits(1 + Announcer::slots_for(batch.spans.size()));
  });
  producer_->begin_replayed_step(batch.rows, batch.spans, layers);
  std::size_t begin = 0;
  for (const std::uint16_t layer : batch.layers) {
    wait_for_room([&](RingProducer& producer) {
      // Half of the ring stays free: a collector warns of a ring that fills up, and a replay waits.
      const std::uint64_t room =
          std::max<std::uint64_t>(batch.rows, producer.map().header().route_slots / 2);
      return producer.hook().room(room) >= room;
    });
    producer_->hook().record(layer, batch.ids.data() + begin, MOETRACE_UINT32,
                             batch.weights.data() + begin, MOETRACE_FLOAT32, batch.rows);
    begin += std::size_t{batch.rows} * producer_->map().layers().top_k_of(layer);
    keep_pace(batch.rows);
  }
}

// A replay at a given rate never waits, like an engine.
template <class Fits>
void Replayer::wait_for_room(Fits fits) {
  if (options_.rows_per_second) return;
  while (!fits(*producer_) && collector_may_come()) std::this_thread::sleep_for(kPoll);
}

bool Replayer::collector_may_come() {
  if (FileLock::held_elsewhere(ctl_.get(), MOETRACE_LOCK_COLLECTOR)) {
    collector_seen_ = true;
    return true;
  }
  return !collector_seen_ && Clock::now() - start_ < kGrace;
}

void Replayer::keep_pace(std::uint32_t rows) {
  if (!options_.rows_per_second) return;
  paced_rows_ += rows;
  const std::chrono::duration<double> due(static_cast<double>(paced_rows_) /
                                          *options_.rows_per_second);
  std::this_thread::sleep_until(start_ + std::chrono::duration_cast<Clock::duration>(due));
}

}  // namespace moetrace::cli
