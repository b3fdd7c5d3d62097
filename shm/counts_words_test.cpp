#include "shm/counts_words.hpp"

#include "shm/test_segment_files.hpp"

namespace moetrace {
namespace {

TEST(Counts, AreReadAsTheyWereWritten) {
  const TestDirectory directory;
  const ProducerSegment producer = make_segment(directory);
  const SegmentMap& map = producer.map();
  EXPECT_EQ(read_counts(map)->version, 0u) << "never written";
  std::vector<std::uint64_t> table(3 * 8);
  for (std::size_t cell = 0; cell < table.size(); ++cell) table[cell] = 100 + cell;
  write_counts(map, 7, table);
  EXPECT_EQ(map.state()->counts.steps_done, 7u);
  EXPECT_EQ(map.counts()[23], 123u);
  const auto read = read_counts(open_segment(directory, producer.name())->map());
  ASSERT_TRUE(read);
  EXPECT_EQ(read->version, 2u);
  EXPECT_EQ(read->steps_done, 7u);
  EXPECT_EQ(read->table, table);
  EXPECT_EQ(read->layer(map.header(), 2).front(), 116u);
  EXPECT_EQ(read->layer(map.header(), 2).size(), 8u);
}

TEST(Counts, AWriterThatDiedLeavesNoCopyToRead) {
  const TestDirectory directory;
  const ProducerSegment producer = make_segment(directory);
  producer.map().state()->counts.version = 3;
  EXPECT_FALSE(read_counts(producer.map()));
}

}  // namespace
}  // namespace moetrace
