// moetrace-collector-bench: route rows a second, from ring records to joined lines in a file on
// tmpfs, on one core; as JSON Lines also on several. For comparison the same rows through
// nlohmann::json::dump. With an argument: only the form of that name.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>
#include <vector>

#include "common/bench_machine.hpp"
#include "daemon/collector/segment_drain.hpp"
#include "producer/ring_producer.hpp"
#include "shm/layer_mask.hpp"

namespace {

using namespace moetrace;

constexpr std::uint32_t kLayers = 24;
constexpr std::uint32_t kExperts = 60;
// A decode batch: one row for each request.
constexpr std::uint32_t kRows = 256;
// Rows of random routing; more than a batch has, so that no row repeats in one.
constexpr std::uint32_t kRandomRows = 1 << 16;
constexpr int kRepeats = 5;

// Where the rows go.
struct Form {
  const char* name;
  bool arrow = false;
  RowWeights weights = RowWeights::kFloat32;
  RowCompression compression = RowCompression::kFast;
  unsigned threads = 1;
};
constexpr Form kForms[] = {
    {"JSON Lines"},
    {.name = "JSON Lines, 2 threads", .threads = 2},
    {.name = "JSON Lines, 4 threads", .threads = 4},
    {"Arrow, --compress fast", true},
    {"Arrow, --compress small", true, RowWeights::kFloat32, RowCompression::kSmall},
    {"Arrow, --compress lz4", true, RowWeights::kFloat32, RowCompression::kLz4},
    {"Arrow, --compress none", true, RowWeights::kFloat32, RowCompression::kNone},
    {"Arrow, fast, float16 weights", true, RowWeights::kFloat16},
    {"Arrow, small, float16 weights", true, RowWeights::kFloat16, RowCompression::kSmall},
    {"Arrow, small, no weights", true, RowWeights::kNone, RowCompression::kSmall},
};

// Weights like those of a softmax: fractions with all digits of a float32.
struct Routing {
  std::uint32_t top_k;
  std::vector<std::int64_t> ids;
  std::vector<float> weights;
};

Routing random_routing(std::uint32_t top_k) {
  std::mt19937 random(1234);
  std::uniform_real_distribution<float> logit(-3, 3);
  Routing routing{top_k, {}, {}};
  for (std::uint32_t row = 0; row < kRandomRows; ++row) {
    std::vector<std::pair<float, std::int64_t>> scores;
    float sum = 0;
    for (std::uint32_t e = 0; e < kExperts; ++e) {
      scores.emplace_back(std::exp(logit(random)), e);
      sum += scores.back().first;
    }
    std::partial_sort(scores.begin(), scores.begin() + top_k, scores.end(), std::greater<>());
    for (std::uint32_t j = 0; j < top_k; ++j) {
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
  options.top_k = routing.top_k;
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
      const std::size_t first = (rows + layer * kRows) % kRandomRows * routing.top_k;
      (*producer)->hook().record(layer, routing.ids.data() + first, MOETRACE_INT64,
                                 routing.weights.data() + first, MOETRACE_FLOAT32, kRows);
    }
    for (moetrace_span& span : spans) ++span.first_position;
    rows += kRows * kLayers;
  }
  return (*producer)->name();
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

struct Drained {
  double seconds;
  std::uint64_t rows;
  std::uint64_t bytes;
};

Drained drain_once(const std::string& directory, const Routing& routing, const Form& form) {
  std::uint64_t rows = 0;
  const SegmentName name = fill_ring(directory, routing, rows);
  auto segment = CollectorSegment::open(directory, name, CollectorSegment::Access::kCollect);
  if (!segment) fail(segment.error().message);
  const std::string path = directory + "/trace.jsonl";
  ::unlink(path.c_str());
  CollectorOptions options;
  options.output = path;
  const moetrace_ring_header& header = segment->map().header();
  PartStart part{name.trace_id, 1, meta_line(header, segment->map().layers(), name.trace_id),
                 std::nullopt};
  if (form.arrow) part.rows = RowsForm{header.top_k, header.num_experts, form.weights, false};
  auto place = place_trace(OutputNames(options, name.trace_id, 0), part, {});
  if (!place) fail(place.error().message);
  Encoders encoders(form.threads);
  auto drain = SegmentDrain::attach(std::move(*segment), std::move(*place),
                                    {.layers = first_layers(MOETRACE_MAX_LAYERS),
                                     .compression = form.compression,
                                     .route_lines_wanted = {},
                                     .encoders = &encoders},
                                    [](const LineBatch&) {});
  if (!drain) fail(drain.error().message);
  const auto start = std::chrono::steady_clock::now();
  // Until every row is written. The end of a trace, a search of the whole ring and a sync, comes
  // after that.
  const auto state_after_pass = [&] {
    const auto state = (*drain)->pass();
    if (!state) fail(state.error().message);
    return *state;
  };
  while ((*drain)->segment().map().ctl()->route_consumed < rows) {
    state_after_pass();
    if ((*drain)->totals().delivered() == rows) (*drain)->write_waiting_rows();
  }
  const double seconds = seconds_since(start);
  while (state_after_pass() != SegmentDrain::State::kEnded) {
  }
  if ((*drain)->totals().delivered() != rows) fail("not every row was delivered");
  const std::uint64_t bytes = (*drain)->file().size() + (*drain)->file().rows_bytes();
  ::unlink(path.c_str());
  ::unlink(rows_path(path).c_str());
  return {seconds, rows, bytes};
}

// The same lines through nlohmann/json, from values in memory to a file on the same tmpfs.
double nlohmann_once(const std::string& directory, const Routing& routing, std::uint64_t rows) {
  const std::string path = directory + "/nlohmann.jsonl";
  std::FILE* file = std::fopen(path.c_str(), "w");
  if (file == nullptr) fail("can't write " + path);
  const auto start = std::chrono::steady_clock::now();
  for (std::uint64_t n = 0; n < rows; ++n) {
    const std::uint64_t row = n % kRows;
    const auto ids = routing.ids.begin() + static_cast<std::ptrdiff_t>(row * routing.top_k);
    const auto weights = routing.weights.begin() + static_cast<std::ptrdiff_t>(row * routing.top_k);
    nlohmann::ordered_json line;
    line["type"] = "route";
    line["req_id"] = "chatcmpl-100000";
    line["token_idx"] = 100 + n / (kRows * kLayers);
    line["layer"] = n / kRows % kLayers;
    line["topk_ids"] = std::vector<std::int64_t>(ids, ids + routing.top_k);
    line["topk_weights"] = std::vector<float>(weights, weights + routing.top_k);
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

void print_row(const char* name, std::vector<double> rates, double bytes) {
  std::sort(rates.begin(), rates.end());
  std::printf("| %-36s | %8.2f | %8.2f | %8.2f | %11.1f |\n", name, rates.front() / 1e6,
              rates[rates.size() / 2] / 1e6, rates.back() / 1e6, bytes);
}

void print_table(const std::string& directory, std::uint32_t top_k, std::string_view only) {
  const Routing routing = random_routing(top_k);
  std::vector<Form> forms;
  for (const Form& form : kForms) {
    const bool fits = form.threads <= std::max(1u, std::thread::hardware_concurrency());
    if (only.empty() ? fits : form.name == only) forms.push_back(form);
  }
  if (forms.empty()) fail("no form is called " + std::string(only));
  std::vector<std::vector<double>> ours(forms.size());
  std::vector<double> bytes(forms.size());
  std::vector<double> theirs;
  std::uint64_t rows = 0;
  // The first run fills the memory of the ring and of the files, and does not count.
  for (int n = -1; n < kRepeats; ++n) {
    for (std::size_t form = 0; form < forms.size(); ++form) {
      const Drained drained = drain_once(directory, routing, forms[form]);
      rows = drained.rows;
      bytes[form] = static_cast<double>(drained.bytes) / static_cast<double>(rows);
      if (n >= 0) ours[form].push_back(static_cast<double>(rows) / drained.seconds);
    }
    // Fewer rows, because it is slow; only the rate counts.
    const std::uint64_t fewer = rows / 8;
    const double seconds = nlohmann_once(directory, routing, fewer);
    if (n >= 0) theirs.push_back(static_cast<double>(fewer) / seconds);
  }
  std::printf("Top-%u, %llu rows a run\n\n", top_k, static_cast<unsigned long long>(rows));
  std::printf(
      "| million rows a second                |      min |   median |      max | bytes a row |\n"
      "| ------------------------------------ | -------- | -------- | -------- | ----------- |\n");
  for (std::size_t form = 0; form < forms.size(); ++form)
    print_row(forms[form].name, ours[form], bytes[form]);
  print_row("nlohmann::json::dump, from memory", theirs, bytes[0]);
  std::printf("\n");
}

}  // namespace

int main(int argc, char** argv) {
  char directory[] = "/dev/shm/moetrace-bench-XXXXXX";
  if (::mkdtemp(directory) == nullptr) fail("can't make a directory in /dev/shm");
  std::printf(
      "Collector, ring to files on tmpfs, one core unless said: %s; %u requests a step, %u layers, "
      "%u experts, "
      "ring 64 MiB, %d runs\n\n",
      bench::cpu_model().c_str(), kRows, kLayers, kExperts, kRepeats);
  for (const std::uint32_t top_k : {4u, 8u}) print_table(directory, top_k, argc > 1 ? argv[1] : "");
  ::rmdir(directory);
  std::printf("Every row of every run was delivered; nothing was dropped.\n");
  return 0;
}
