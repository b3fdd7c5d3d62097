#include "shm/control_words.hpp"

#include "shm/test_segment_files.hpp"

namespace moetrace {
namespace {

TEST(ControlWords, ControlWordsAreReadAsTheyWereWritten) {
  const TestDirectory directory;
  const ProducerSegment producer = make_segment(directory);
  const auto first = read_control(producer.map());
  ASSERT_TRUE(first);
  EXPECT_EQ(first->words, (ControlWords{true, 1, small_header().layers_logged}));
  const ControlWords changed{false, 0xFFFFFFFF, {{1, 2, 3, 4}}};
  write_control(producer.map(), changed);
  const auto second = read_control(producer.map());
  ASSERT_TRUE(second);
  EXPECT_GT(second->version, first->version);
  EXPECT_EQ(second->words, changed);
  producer.map().ctl()->control.version |= 1;  // a writer that died
  EXPECT_FALSE(read_control(producer.map()));
  write_control(producer.map(), changed);  // the next one takes over
  EXPECT_TRUE(read_control(producer.map()));
}

}  // namespace
}  // namespace moetrace
