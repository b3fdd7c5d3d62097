#include "shm/cost.hpp"

#include "shm/test_segment_files.hpp"

namespace moetrace {
namespace {

TEST(Cost, IsUnknownBelowAbi1_2) {
  const TestDirectory directory;
  const ProducerSegment producer = make_segment(directory);
  write_cost(producer.map(), {5, UINT64_MAX});
  const auto cost = read_cost(open_segment(directory, producer.name())->map());
  ASSERT_TRUE(cost);
  EXPECT_EQ(cost->announce_ns, 5u);
  EXPECT_EQ(cost->hook_ns, UINT64_MAX);
  patch(directory.file(producer.name().ring_file()), offsetof(moetrace_ring_header, abi_minor),
        std::uint16_t{1});
  EXPECT_FALSE(read_cost(open_segment(directory, producer.name())->map()));
}

}  // namespace
}  // namespace moetrace
