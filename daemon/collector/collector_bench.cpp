// moetrace-collector-bench: route rows a second, from ring records to joined lines in a file on
// tmpfs, on one core. For comparison the same rows through nlohmann::json::dump.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <vector>

#include "daemon/collector/segment_drain.hpp"
#include "producer/ring_producer.hpp"
#include "shm/layer_mask.hpp"

namespace {

using namespace moetrace;

constexpr std::uint32_t kLayers = 24;
constexpr std::uint32_t kExperts = 60;
constexpr std::uint32_t kTopK = 4;
// A decode batch: one row for each request.
constexpr std::uint32_t kRows = 256;
constexpr int kRepeats = 5;

std::string cpu_model() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown processor";
}

// Weights like those of a softmax: fractions with all digits of a float32.
struct Routing {
  std::vector<std::int64_t> ids;
  std::vector<float> weights;
};

Routing random_routing() {
  std::mt19937 random(1234);
  std::uniform_real_distribution<float> logit(-3, 3);
  Routing routing;
  for (std::uint32_t row = 0; row < kRows; ++row) {
    std::vector<std::pair<float, std::int64_t>> scores;
    float sum = 0;
    for (std::uint32_t e = 0; e < kExperts; ++e) {
      scores.emplace_back(std::exp(logit(random)), e);
      sum += scores.back().first;
    }
    std::partial_sort(scores.begin(), scores.begin() + kTopK, scores.end(), std::greater<>());
    for (std::uint32_t j = 0; j < kTopK; ++j) {
      routing.ids.push_back(scores[j].second);
      routing.weights.push_back(scores[j].first / sum);
    }
  }
  return routing;
}

[[noreturn]] void fail(const std::string& why) {
  std::fprintf(stderr, "moetrace-collector-bench: %s\n", why.c_str());
  std::exit(1);
}

// Makes a closed segment with a full ring; returns its name and its number of rows.
SegmentName fill_ring(const std::string& directory, const Routing& routing, std::uint64_t& rows) {
  moetrace_options options;
  moetrace_options_init(&options, sizeof options);
  options.directory = directory.c_str();
  options.ring_mb = 64;
  options.num_layers = kLayers;
  options.num_experts = kExperts;
  options.top_k = kTopK;
  auto settings = resolve_settings(options);
  if (!settings) fail(settings.error().message);
  auto producer = RingProducer::open(*settings);
  if (!producer) fail(producer.error().message);
  std::vector<moetrace_span> spans;
  for (std::uint32_t row = 0; row < kRows; ++row) {
    const std::uint64_t request =
        (*producer)->requests().begin("chatcmpl-" + std::to_string(100000 + row), 100, 0);
    spans.push_back({request, 100, row, 1});
  }
  rows = 0;
  while ((*producer)->hook().room(kRows * kLayers) >= kRows * kLayers) {
    (*producer)->begin_step(kRows, spans);
    for (std::uint32_t layer = 0; layer < kLayers; ++layer) {
      (*producer)->hook().record(layer, routing.ids.data(), MOETRACE_INT64, routing.weights.data(),
                                 MOETRACE_FLOAT32, kRows);
    }
    for (moetrace_span& span : spans) ++span.first_position;
    rows += kRows * kLayers;
  }
  return (*producer)->name();
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double drain_once(const std::string& directory, const Routing& routing, std::uint64_t& rows) {
  const SegmentName name = fill_ring(directory, routing, rows);
  auto segment = CollectorSegment::open(directory, name, CollectorSegment::Access::kCollect);
  if (!segment) fail(segment.error().message);
  const std::string path = directory + "/trace.jsonl";
  ::unlink(path.c_str());
  CollectorOptions options;
  options.output = path;
  auto place = place_trace(OutputNames(options, name.trace_id, 0), name.trace_id,
                           meta_line(segment->map().header(), name.trace_id), {});
  if (!place) fail(place.error().message);
  auto drain = SegmentDrain::attach(std::move(*segment), std::move(*place),
                                    first_layers(MOETRACE_MAX_LAYERS), [](const LineBatch&) {});
  if (!drain) fail(drain.error().message);
  const auto start = std::chrono::steady_clock::now();
  while (true) {
    const auto state = (*drain)->pass();
    if (!state) fail(state.error().message);
    if (*state == SegmentDrain::State::kEnded) break;
  }
  const double seconds = seconds_since(start);
  if ((*drain)->totals().delivered() != rows) fail("not every row was delivered");
  ::unlink(path.c_str());
  return seconds;
}

// The same lines through nlohmann/json, from values in memory to a file on the same tmpfs.
double nlohmann_once(const std::string& directory, const Routing& routing, std::uint64_t rows) {
  const std::string path = directory + "/nlohmann.jsonl";
  std::FILE* file = std::fopen(path.c_str(), "w");
  if (file == nullptr) fail("can't write " + path);
  const auto start = std::chrono::steady_clock::now();
  for (std::uint64_t n = 0; n < rows; ++n) {
    const std::uint64_t row = n % kRows;
    const auto ids = routing.ids.begin() + static_cast<std::ptrdiff_t>(row * kTopK);
    const auto weights = routing.weights.begin() + static_cast<std::ptrdiff_t>(row * kTopK);
    nlohmann::ordered_json line;
    line["type"] = "route";
    line["req_id"] = "chatcmpl-100000";
    line["token_idx"] = 100 + n / (kRows * kLayers);
    line["layer"] = n / kRows % kLayers;
    line["topk_ids"] = std::vector<std::int64_t>(ids, ids + kTopK);
    line["topk_weights"] = std::vector<float>(weights, weights + kTopK);
    line["request"] = row;
    line["step"] = n / (kRows * kLayers);
    line["seq"] = n;
    const std::string text = line.dump() + "\n";
    std::fwrite(text.data(), 1, text.size(), file);
  }
  std::fclose(file);
  const double seconds = seconds_since(start);
  ::unlink(path.c_str());
  return seconds;
}

void print_row(const char* name, std::vector<double> rates) {
  std::sort(rates.begin(), rates.end());
  std::printf("| %-42s | %8.2f | %8.2f | %8.2f |\n", name, rates.front() / 1e6,
              rates[rates.size() / 2] / 1e6, rates.back() / 1e6);
}

}  // namespace

int main() {
  char directory[] = "/dev/shm/moetrace-bench-XXXXXX";
  if (::mkdtemp(directory) == nullptr) fail("can't make a directory in /dev/shm");
  const Routing routing = random_routing();
  std::vector<double> ours;
  std::vector<double> theirs;
  std::uint64_t rows = 0;
  for (int n = 0; n < kRepeats; ++n) {
    const double seconds = drain_once(directory, routing, rows);
    ours.push_back(static_cast<double>(rows) / seconds);
    // Fewer rows, because it is slow; only the rate counts.
    const std::uint64_t fewer = rows / 8;
    theirs.push_back(static_cast<double>(fewer) / nlohmann_once(directory, routing, fewer));
  }
  ::rmdir(directory);
  std::printf(
      "Collector, ring to file on tmpfs, one core: %s; %llu rows a run, top-%u, %u layers, ring 64 "
      "MiB, %d runs\n\n",
      cpu_model().c_str(), static_cast<unsigned long long>(rows), kTopK, kLayers, kRepeats);
  std::printf("| million rows a second                      |      min |   median |      max |\n");
  std::printf("| ------------------------------------------ | -------- | -------- | -------- |\n");
  print_row("moetrace: drain, join, format, write", ours);
  print_row("nlohmann::json::dump, values in memory", theirs);
  std::printf("\nEvery row of every run was delivered; nothing was dropped.\n");
  return 0;
}
