// The stress test's producer: moetrace-stress-writer DIRECTORY ROUTE_SLOTS TOP_K RECORDS. Unlike an
// engine, it waits for room.
#include <sched.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "shm/producer_segment.hpp"
#include "shm/stress_record.hpp"

int main(int argc, char** argv) {
  using namespace moetrace;
  if (argc != 5) return 2;
  const auto argument = [&](int n) { return std::strtoull(argv[n], nullptr, 10); };
  moetrace_ring_header header{};
  header.top_k = static_cast<std::uint32_t>(argument(3));
  header.num_layers = 1;
  header.num_experts = 1;
  const auto segment = ProducerSegment::create(argv[1], "stress", header, {argument(2), 64, 4});
  if (!segment) {
    std::fprintf(stderr, "%s\n", segment.error().message.c_str());
    return 1;
  }
  const std::uint64_t records = argument(4);
  const std::size_t stride = segment->map().header().route_stride;
  RingWriter<MappedRing> ring(segment->map().route_ring(), segment->map().header().route_slots);
  while (ring.position() < records) {
    // Claim groups of up to 7 slots, so that groups and laps don't align.
    const std::uint64_t room =
        std::min(ring.room(7), std::min<std::uint64_t>(7, records - ring.position()));
    if (room == 0) {
      ::sched_yield();
      continue;
    }
    const std::uint64_t first = ring.claim(room);
    for (std::uint64_t n = first; n < first + room; ++n) {
      stress::fill(ring.memory().slot(n), stride, n);
      ring.commit(n, stress::step_of(n));
    }
  }
  return 0;
}
