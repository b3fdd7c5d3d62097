// moetrace-cuda-load-check ROWS LAYERS: drains the segment of a lossless moetrace-cuda-load, which
// may start before or after it, and compares every byte of every record with the expected one. Its
// last line says how many records it checked. On a wrong record it names that record and exits with
// code 1.
#include <chrono>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string>
#include <thread>

#include "producer/cuda/test_routing.hpp"
#include "shm/collector_segment.hpp"
#include "shm/snapshot.hpp"

namespace moetrace::cuda {
namespace {

moetrace_route_record expected_record(std::uint64_t seq, std::uint32_t rows, std::uint32_t layers) {
  const std::uint64_t step = seq / (std::uint64_t{rows} * layers);
  const auto within = static_cast<std::uint32_t>(seq % (std::uint64_t{rows} * layers));
  const std::uint32_t layer = within / rows;
  const std::uint32_t row = within % rows;
  const std::uint64_t bits = test_bits(step, layer, row);
  moetrace_route_record record{};
  record.head = {static_cast<std::uint32_t>(seq + 1), static_cast<std::uint32_t>(step), row,
                 static_cast<std::uint16_t>(layer), 0};
  for (std::uint32_t k = 0; k < 8; ++k) {
    record.expert[k] = k < kTestTopK ? static_cast<std::uint16_t>(test_expert(bits, k))
                                     : static_cast<std::uint16_t>(MOETRACE_NO_EXPERT);
    record.weight[k] = k < kTestTopK ? test_weight(bits, k) : 0.0f;
  }
  return record;
}

// Waits up to a minute for the session's segment.
std::optional<CollectorSegment> find_segment() {
  const std::string directory = default_ring_directory();
  const char* session = std::getenv("MOETRACE_SESSION");
  for (int tries = 0; tries < 6000; ++tries) {
    const auto names = list_segments(directory, session != nullptr ? session : "default");
    if (names && !names->empty()) {
      auto segment =
          CollectorSegment::open(directory, names->front(), CollectorSegment::Access::kCollect);
      if (segment) return std::move(*segment);
      std::fprintf(stderr, "moetrace-cuda-load-check: %s\n", segment.error().message.c_str());
      return std::nullopt;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  std::fprintf(stderr, "moetrace-cuda-load-check: %s: no segment within 60 s\n", directory.c_str());
  return std::nullopt;
}

int run(std::uint32_t rows, std::uint32_t layers) {
  auto segment = find_segment();
  if (!segment) return 1;
  const SegmentMap& map = segment->map();
  RingReader<MappedRing> routes(map.route_ring(), map.header().route_slots);
  RingReader<MappedRing> events(map.event_ring(), map.header().event_slots);
  std::uint64_t next = 0;
  while (true) {
    // Load `closed` before the records. acquire: pairs with the producer's release store; once it
    // is set, every record is visible.
    const bool closed = SharedWord(&map.state()->host.closed).load(std::memory_order_acquire) != 0;
    const std::uint64_t end = valid_routes_end(map, routes, next, 4096);
    for (std::uint64_t seq = next; seq < end; ++seq) {
      const moetrace_route_record expected = expected_record(seq, rows, layers);
      if (std::memcmp(&expected, routes.memory().slot(seq), sizeof expected) == 0) continue;
      std::fprintf(stderr, "moetrace-cuda-load-check: record %llu differs from what was written\n",
                   static_cast<unsigned long long>(seq));
      return 1;
    }
    routes.publish(end);
    events.publish(events.valid_end(events.published(), 4096));
    if (end == next && closed) break;
    if (end == next && !segment->producer_alive()) break;
    next = end;
  }
  const auto snapshot = read_snapshot(map);
  const std::uint64_t dropped = snapshot ? snapshot->dropped : 0;
  segment->unlink();
  std::printf("%llu records, every field right, %llu dropped\n",
              static_cast<unsigned long long>(next), static_cast<unsigned long long>(dropped));
  return dropped == 0 ? 0 : 1;
}

}  // namespace
}  // namespace moetrace::cuda

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "moetrace-cuda-load-check: usage: ROWS LAYERS\n");
    return 2;
  }
  return moetrace::cuda::run(static_cast<std::uint32_t>(std::stoul(argv[1])),
                             static_cast<std::uint32_t>(std::stoul(argv[2])));
}
