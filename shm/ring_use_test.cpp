#include "shm/ring_use.hpp"

#include "shm/test_segment_files.hpp"

namespace moetrace {
namespace {

TEST(RingUse, IsUnknownUntilACollectorHasSeenARow) {
  const TestDirectory directory;
  const ProducerSegment producer = make_segment(directory);
  const auto collector = open_segment(directory, producer.name());
  EXPECT_EQ(read_high_water(collector->map()), std::nullopt);
  const std::uint64_t slots = producer.map().header().route_slots;
  for (const std::uint64_t seen : {std::uint64_t{1}, slots}) {
    write_high_water(collector->map(), seen);
    EXPECT_EQ(read_high_water(producer.map()), seen);
  }
  producer.map().ctl()->ring_use.high_water = slots + 1;
  EXPECT_EQ(read_high_water(collector->map()), std::nullopt) << "no collector writes this";
}

}  // namespace
}  // namespace moetrace
