#include "shm/ledger.hpp"

#include "shm/test_segment_files.hpp"

namespace moetrace {
namespace {

void expect_numbered(const moetrace_ledger& ledger) {
  EXPECT_EQ(ledger.number, 1u);
  EXPECT_EQ(ledger.route, 2u);
  EXPECT_EQ(ledger.event, 3u);
  EXPECT_EQ(ledger.attempted, 4u);
  EXPECT_EQ(ledger.filtered, 5u);
  EXPECT_EQ(ledger.dropped, 6u);
  EXPECT_EQ(ledger.event_lost, 7u);
  EXPECT_EQ(ledger.unclaimed, 8u);
}

TEST(Ledger, EachFieldLiesWhereTheAbiSays) {
  const TestDirectory directory;
  const ProducerSegment producer = make_segment(directory);
  const auto collector = open_segment(directory, producer.name());
  ASSERT_TRUE(collector);
  EXPECT_FALSE(read_ledger(collector->map()));
  write_ledger(collector->map(), {.number = 1,
                                  .route = 2,
                                  .event = 3,
                                  .attempted = 4,
                                  .filtered = 5,
                                  .dropped = 6,
                                  .event_lost = 7,
                                  .unclaimed = 8});
  expect_numbered(collector->map().ctl()->ledger[1]);
  const auto read = read_ledger(collector->map());
  ASSERT_TRUE(read);
  expect_numbered(*read);
}

}  // namespace
}  // namespace moetrace
