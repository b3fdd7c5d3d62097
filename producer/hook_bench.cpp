// moetrace-hook-bench [--quick]: measures the cost of the CPU hook, in one table. 24 layers, 60
// experts, top-4, int64 ids, float32 weights.
//
// It times bursts of half a ring, each of whole passes, while a RingReader on the other core drains
// the ring through its own mapping and reads every record. When the reader has caught up it sleeps
// for 50 us, as moetraced does. It catches up between bursts, untimed, so nothing is dropped.
#include "producer/hook_bench.hpp"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <random>
#include <thread>

#include "producer/ring_producer.hpp"
#include "shm/collector_segment.hpp"
#include "shm/layer_mask.hpp"
#include "shm/route_layout.hpp"

namespace moetrace::bench {

namespace {

constexpr std::uint32_t kLayers = 24;
constexpr std::uint32_t kExperts = 60;
constexpr std::uint32_t kTopK = 4;
constexpr RouteLayout kLayout = RouteLayout::of_top_k(kTopK);
constexpr int kRounds = 10;
// Bursts per row and round.
constexpr int kBursts = 101;
constexpr int kJsonBursts = 21;

[[noreturn]] void fail(const std::string& line) {
  std::fprintf(stderr, "moetrace-hook-bench: %s\n", line.c_str());
  std::exit(1);
}

// Drains both rings on core 1.
class Drainer {
 public:
  Drainer(const std::string& directory, const SegmentName& name)
      : segment_(std::move(
            *CollectorSegment::open(directory, name, CollectorSegment::Access::kCollect))),
        thread_([this] { run(); }) {}
  ~Drainer() {
    stop_ = true;
    thread_.join();
    segment_.unlink();
  }
  void wait_for(std::uint64_t routes, std::uint64_t events) const {
    while (routes_ < routes || events_ < events) std::this_thread::yield();
  }
  std::uint64_t routes() const { return routes_; }
  std::uint64_t checksum() const { return checksum_; }

 private:
  void run() {
    pin_to(1);
    const SegmentMap& map = segment_.map();
    RingReader<MappedRing> routes(map.route_ring(), map.header().route_slots);
    RingReader<MappedRing> events(map.event_ring(), map.header().event_slots);
    while (!stop_) {
      const std::uint64_t first = routes.published();
      const std::uint64_t end = routes.valid_end(first, 256);
      for (std::uint64_t n = first; n != end; ++n) {
        std::byte record[kLayout.stride()];
        std::memcpy(record, routes.memory().slot(n), sizeof record);
        std::uint64_t four_ids = 0;
        std::memcpy(&four_ids, record + kLayout.ids_offset(), sizeof four_ids);
        checksum_ += four_ids;
      }
      routes.publish(end);
      events.publish(events.valid_end(events.published(), 256));
      events_ = events.published();
      routes_ = end;
      // As moetraced does when it has caught up. A reader that spins on the next slot would steal
      // the writer's cache line.
      if (end == first) std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  }

  CollectorSegment segment_;
  std::atomic<std::uint64_t> routes_ = 0;
  std::atomic<std::uint64_t> events_ = 0;
  // Other threads read it once this one has caught up; routes_ orders that.
  std::uint64_t checksum_ = 0;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

struct Routing {
  // [rows, top_k]
  std::vector<std::int64_t> ids;
  std::vector<float> weights;
};

Routing random_routing(std::uint32_t rows) {
  std::mt19937 random(1234);
  Routing routing;
  for (std::uint32_t n = 0; n < rows * kTopK; ++n) {
    routing.ids.push_back(static_cast<std::int64_t>(random() % kExperts));
    routing.weights.push_back(static_cast<float>(random() % 1000) / 1000);
  }
  return routing;
}

// What one layer's rows add to the reader's checksum.
std::uint64_t checksum(const Routing& routing, std::uint32_t rows) {
  std::uint64_t sum = 0;
  for (std::uint32_t row = 0; row < rows; ++row) {
    for (std::uint32_t k = 0; k < kTopK; ++k)
      sum += static_cast<std::uint64_t>(routing.ids[row * kTopK + k]) << (16 * k);
  }
  return sum;
}

enum class Part { kHook, kAnnouncement, kBoth };

// Times one part of `repeats` bursts of passes over `rows` rows.
Row hook_row(double ring_mb, std::uint32_t rows, Part part, int repeats) {
  char directory[] = "/dev/shm/moetrace-bench-XXXXXX";
  if (::mkdtemp(directory) == nullptr)
    fail("can't create a directory on /dev/shm: " + std::string(std::strerror(errno)) +
         "; check that it is mounted and writable");
  moetrace_ring_header header{};
  header.top_k = kTopK;
  header.num_layers = kLayers;
  header.num_experts = kExperts;
  header.sample_every = 1;
  header.layers_logged = header.moe_layers = first_layers(kLayers);
  Settings settings{directory, "bench", sizes_for(ring_mb, kTopK), header};
  Row row;
  {
    auto opened = RingProducer::open(settings);
    if (!opened) {
      std::filesystem::remove_all(directory);
      fail(opened.error().message);
    }
    const auto producer = std::move(*opened);
    Drainer drainer(directory, producer->name());
    const std::uint64_t slots = producer->map().header().route_slots;
    const std::uint64_t passes = std::max<std::uint64_t>(
        1, std::min(slots / 2 / (kLayers * rows), settings.sizes.event_slots / 4));
    const Routing routing = random_routing(rows);
    const moetrace_span span{0, 0, 0, rows};
    std::uint64_t step = 0;
    const auto burst = [&] {
      for (std::uint64_t pass = 0; pass < passes; ++pass) {
        if (part == Part::kHook) {
          producer->hook().arm({step++, rows, true, header.moe_layers, 0, kLayers});
        } else {
          producer->begin_step(rows, {&span, 1});
        }
        if (part == Part::kAnnouncement) continue;
        for (std::uint32_t layer = 0; layer < kLayers; ++layer) {
          producer->hook().record(layer, routing.ids.data(), MOETRACE_INT64, routing.weights.data(),
                                  MOETRACE_FLOAT32, rows);
        }
      }
    };
    const auto catch_up = [&] {
      drainer.wait_for(producer->hook().claimed(), producer->events().position());
    };
    const std::uint64_t per_burst = part == Part::kAnnouncement ? passes : passes * kLayers * rows;
    std::uint64_t bursts = 0;
    // The first lap touches every page.
    for (; bursts < 3; ++bursts) burst(), catch_up();
    for (int n = 0; n < repeats; ++n, ++bursts) {
      const std::int64_t begin = now_ns();
      burst();
      row.ns.push_back(static_cast<double>(now_ns() - begin) / static_cast<double>(per_burst));
      catch_up();
    }
    row.records = bursts * per_burst;
    const std::uint64_t lost = producer->hook().dropped() + producer->announcer().event_lost();
    row.delivered = row.records - lost;
    if (part != Part::kAnnouncement &&
        (drainer.routes() != row.delivered ||
         drainer.checksum() != bursts * passes * kLayers * checksum(routing, rows))) {
      // The reader saw other bytes than the hook wrote: the table shows all records as dropped.
      row.delivered = 0;
    }
  }
  std::filesystem::remove_all(directory);
  return row;
}

// One row of the table, over all rounds.
struct Line {
  std::string what;
  // What the times are per.
  const char* unit = "record";
  // The fastest burst of all rounds.
  double fastest = 0;
  // One a round.
  std::vector<double> medians;
  std::uint64_t records = 0;
  std::uint64_t lost = 0;

  void add(Row row) {
    std::sort(row.ns.begin(), row.ns.end());
    const double least = row.ns.empty() ? 0 : row.ns.front();
    fastest = medians.empty() ? least : std::min(fastest, least);
    medians.push_back(row.ns.empty() ? 0 : row.ns[row.ns.size() / 2]);
    records += row.records;
    lost += row.records - row.delivered;
    what = std::move(row.what);
  }
  // Returns false if records were lost, which makes the line worthless.
  bool print() {
    std::sort(medians.begin(), medians.end());
    std::printf("| %-62s | %9.1f | %9.1f | %9.1f | %-6s | %11llu | %7llu |\n", what.c_str(),
                fastest, medians[medians.size() / 2], medians.back(), unit,
                static_cast<unsigned long long>(records), static_cast<unsigned long long>(lost));
    return records > 0 && lost == 0;
  }
};

struct Measured {
  Row row;
  const char* unit;
};

// Measures one round.
std::vector<Measured> measure(bool quick) {
  const int repeats = quick ? 3 : kBursts;
  std::vector<Measured> all;
  const auto hook = [&](const std::string& what, double ring_mb, std::uint32_t rows, Part part) {
    Row row = hook_row(ring_mb, rows, part, repeats);
    row.what = what + ", ring " + std::to_string(static_cast<int>(ring_mb)) + " MiB";
    all.push_back({std::move(row), part == Part::kAnnouncement ? "step" : "record"});
  };
  for (const double ring_mb : {4.0, 64.0}) {
    for (const std::uint32_t rows : {1u, 32u, 256u})
      hook("hook, batch " + std::to_string(rows), ring_mb, rows, Part::kHook);
    hook("announcement with one span", ring_mb, 1, Part::kAnnouncement);
    for (const std::uint32_t rows : {1u, 32u})
      hook("hook and announcement, batch " + std::to_string(rows), ring_mb, rows, Part::kBoth);
  }
  all.push_back({json_row(quick ? 1 : kJsonBursts), "record"});
  return all;
}

int run(bool quick) {
  pin_to(0);
  const int rounds = quick ? 1 : kRounds;
  std::printf(
      "%s, %u cores; hook on core 0, reader on core 1; %d rounds of %d bursts a row\n"
      "(JSON lines: %d): fastest burst, and median and worst of the rounds' medians\n\n",
      cpu_model().c_str(), std::thread::hardware_concurrency(), rounds, quick ? 3 : kBursts,
      quick ? 1 : kJsonBursts);
  std::vector<Line> lines;
  for (int round = 0; round < rounds; ++round) {
    std::vector<Measured> measured = measure(quick);
    lines.resize(measured.size());
    for (std::size_t n = 0; n < measured.size(); ++n) {
      lines[n].unit = measured[n].unit;
      lines[n].add(std::move(measured[n].row));
    }
    if (::isatty(STDERR_FILENO) != 0) std::fprintf(stderr, "round %d of %d\n", round + 1, rounds);
  }
  std::printf("| %-62s | %9s | %9s | %9s | %-6s | %11s | %7s |\n|%s|\n", "what", "fastest",
              "median ns", "worst", "per", "number", "dropped",
              "----------------------------------------------------------------|-----------|-------"
              "----|-----------|--------|-------------|---------");
  bool whole = true;
  for (Line& line : lines) whole &= line.print();
  return whole ? 0 : 1;
}

}  // namespace
}  // namespace moetrace::bench

int main(int argc, char** argv) {
  if (argc > 2 || (argc == 2 && std::strcmp(argv[1], "--quick") != 0)) {
    std::fprintf(stderr, "moetrace-hook-bench: unknown argument '%s'; use --quick or none\n",
                 argv[argc > 2 && std::strcmp(argv[1], "--quick") == 0 ? 2 : 1]);
    return 2;
  }
  return moetrace::bench::run(argc == 2);
}
