#include "shm/segment_map.hpp"

#include <algorithm>

#include "shm/test_segment_files.hpp"

namespace moetrace {
namespace {

// A CPU's slots speak for themselves; of a GPU's, which carry their number before they are whole,
// only the published ones count, whatever a hostile producer publishes.
TEST(SegmentMap, AGpusRoutesAreValidUpToWhatItPublished) {
  for (const std::uint32_t claimer : {MOETRACE_CLAIMER_CPU, MOETRACE_CLAIMER_GPU}) {
    const TestDirectory directory;
    moetrace_ring_header header = small_header();
    header.claimer = claimer;
    auto producer = ProducerSegment::create(directory.path(), "default", header, kSmallSizes);
    ASSERT_TRUE(producer);
    const SegmentMap& map = producer->map();
    RingWriter<MappedRing> writer(map.route_ring(), map.header().route_slots);
    for (int n = 0; n < 10; ++n) writer.commit(writer.claim(1), 0);
    const RingReader<MappedRing> reader(map.route_ring(), map.header().route_slots);
    const bool gpu = claimer == MOETRACE_CLAIMER_GPU;
    for (const std::uint64_t published : {std::uint64_t{0}, std::uint64_t{7}, ~std::uint64_t{0}}) {
      map.state()->published.routes = published;
      EXPECT_EQ(valid_routes_end(map, reader, 0, 64),
                gpu ? std::min<std::uint64_t>(published, 10) : 10);
      EXPECT_EQ(valid_routes_end(map, reader, 8, 1), gpu && published < 9 ? 8u : 9u);
    }
  }
}

}  // namespace
}  // namespace moetrace
