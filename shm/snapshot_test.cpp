#include "shm/snapshot.hpp"

#include "shm/test_segment_files.hpp"

namespace moetrace {
namespace {

TEST(Snapshot, EachFieldLiesWhereTheAbiSays) {
  const TestDirectory directory;
  const ProducerSegment producer = make_segment(directory);
  EXPECT_FALSE(read_snapshot(producer.map()));
  write_snapshot(producer.map(), {.number = 1, .steps_done = 2, .claimed = 3, .dropped = 4});
  const moetrace_snapshot& shared = producer.map().state()->snapshots[1];
  EXPECT_EQ(shared.number, 1u);
  EXPECT_EQ(shared.steps_done, 2u);
  EXPECT_EQ(shared.claimed, 3u);
  EXPECT_EQ(shared.dropped, 4u);
  const auto read = read_snapshot(open_segment(directory, producer.name())->map());
  ASSERT_TRUE(read);
  EXPECT_EQ(read->number, 1u);
  EXPECT_EQ(read->steps_done, 2u);
  EXPECT_EQ(read->claimed, 3u);
  EXPECT_EQ(read->dropped, 4u);
}

TEST(Snapshot, TheNewerOneIsRead) {
  const TestDirectory directory;
  const ProducerSegment producer = make_segment(directory);
  for (std::uint64_t n = 1; n <= 5; ++n) {
    write_snapshot(producer.map(), {.number = n, .steps_done = 10 * n});
    EXPECT_EQ(read_snapshot(producer.map())->steps_done, 10 * n);
  }
}

}  // namespace
}  // namespace moetrace
