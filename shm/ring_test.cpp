// The ring on uint8_t numbers, which wrap after 256: each test passes many wrap-arounds of slots,
// sequence and positions within milliseconds.
#include "shm/ring.hpp"

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <random>
#include <vector>

namespace moetrace {
namespace {

struct TinyStorage {
  std::array<std::uint64_t, 128> commit{};
  std::array<std::uint64_t, 128> payload{};
  std::uint64_t consumed = 0;
};

struct TinyRing {
  using Index = std::uint8_t;
  using Seq = std::uint8_t;
  TinyStorage* storage;

  SharedWord commit_cell(Index slot) const { return SharedWord(&storage->commit[slot]); }
  SharedWord consumed_cell() const { return SharedWord(&storage->consumed); }
};

class Ring : public ::testing::TestWithParam<int> {
 protected:
  std::uint8_t capacity() const { return static_cast<std::uint8_t>(GetParam()); }

  // Writes the next `count` records, each with its ordinal, and commits them in order.
  void write(std::uint8_t count) {
    const std::uint8_t first = writer_.claim(count);
    for (std::uint8_t n = 0; n < count; ++n) {
      const auto position = static_cast<std::uint8_t>(first + n);
      storage_.payload[position % capacity()] = written_;
      writer_.commit(position, static_cast<std::uint32_t>(written_++));
    }
  }
  // Takes what is there, at most `limit` records, and checks each.
  int read(std::uint8_t limit) {
    const std::uint8_t end = reader_.valid_end(at_, limit);
    int count = 0;
    for (; at_ != end; ++at_, ++read_, ++count) {
      EXPECT_EQ(reader_.upper_at(at_), static_cast<std::uint32_t>(read_));
      EXPECT_EQ(storage_.payload[at_ % capacity()], read_);
    }
    return count;
  }

  TinyStorage storage_;
  RingWriter<TinyRing> writer_{TinyRing{&storage_}, capacity()};
  RingReader<TinyRing> reader_{TinyRing{&storage_}, capacity()};
  std::uint8_t at_ = 0;
  std::uint64_t written_ = 0;
  std::uint64_t read_ = 0;
};

TEST_P(Ring, RandomWritesAndReadsKeepOrderAcrossManyWraps) {
  std::mt19937 random(1234);
  for (int round = 0; round < 20'000; ++round) {
    const auto wanted = static_cast<std::uint8_t>(random() % (capacity() + 2u));
    const std::uint8_t room = writer_.room(wanted);
    ASSERT_LE(room, capacity());
    // Slots from the published position on are the reader's, whether it has looked at them or not.
    ASSERT_LE(room,
              capacity() - static_cast<std::uint8_t>(writer_.position() - reader_.published()));
    write(std::min(wanted, room));
    read(static_cast<std::uint8_t>(random() % (capacity() + 2u)));
    if (random() % 2 == 0) reader_.publish(at_);
    ASSERT_LE(written_ - read_, capacity());
  }
  EXPECT_GT(written_, 1000u) << "the numbers wrapped";
  EXPECT_FALSE(HasFailure());
}

TEST_P(Ring, AFullRingTakesNothingUntilTheReaderPublishes) {
  for (int lap = 0; lap < 600; ++lap) {
    ASSERT_EQ(writer_.room(capacity()), capacity());
    write(capacity());
    ASSERT_EQ(writer_.room(1), 0);
    ASSERT_EQ(read(255), capacity());
    ASSERT_EQ(writer_.room(1), 0) << "read, but not published";
    reader_.publish(at_);
  }
}

// A reader that publishes only whole batches would wedge the ring: the writer waits for room, the
// reader for the rest of its batch. So it also publishes when it has caught up.
TEST_P(Ring, ADrainedReaderPublishesWhatIsLeftOfItsBatch) {
  const int batch = capacity();
  for (int lap = 0; lap < 600; ++lap) {
    const std::uint8_t room = writer_.room(1);
    ASSERT_GT(room, 0) << "wedged in lap " << lap;
    write(room);
    const int count = read(255);
    const bool caught_up = !reader_.upper_at(at_);
    if (count >= batch || caught_up) reader_.publish(at_);
    if (writer_.room(1) > 1) write(1);  // so that batches never fit the ring
  }
}

TEST_P(Ring, AHostileConsumedPositionIsIgnored) {
  std::mt19937 random(99);
  for (int round = 0; round < 2000; ++round) {
    const auto unread = static_cast<std::uint8_t>(written_ - read_);
    for (int v = 0; v < 256; ++v) {
      // Anything outside [published, claimed] is a lie.
      const auto ahead = static_cast<std::uint8_t>(v - reader_.published());
      if (ahead <= static_cast<std::uint8_t>(writer_.position() - reader_.published())) continue;
      storage_.consumed = static_cast<std::uint64_t>(v);
      ASSERT_LE(writer_.room(capacity()), capacity() - unread);
    }
    storage_.consumed = reader_.published();
    write(static_cast<std::uint8_t>(std::min<unsigned>(writer_.room(3), random() % 4)));
    read(static_cast<std::uint8_t>(random() % 4));
    reader_.publish(at_);
  }
}

TEST_P(Ring, AHoleEndsTheScan) {
  if (capacity() < 4) return;
  const std::uint8_t first = writer_.claim(3);
  writer_.commit(first, 0);
  writer_.commit(static_cast<std::uint8_t>(first + 2), 2);
  EXPECT_EQ(reader_.valid_end(0, 255), 1);
  EXPECT_EQ(reader_.upper_at(2), 2u)
      << "a slot after a hole is readable, for a collector whose producer is dead";
  writer_.commit(static_cast<std::uint8_t>(first + 1), 1);
  EXPECT_EQ(reader_.valid_end(0, 255), 3);
  EXPECT_EQ(reader_.valid_end(0, 2), 2) << "the limit holds";
}

INSTANTIATE_TEST_SUITE_P(Capacities, Ring, ::testing::Values(1, 2, 4, 16, 128),
                         ::testing::PrintToStringParamName());

TEST(MappedRing, SlotsLieAtTheirStride) {
  alignas(64) std::array<std::uint64_t, 2 * 16> memory{};
  std::uint64_t consumed = 0;
  const MappedRing ring(memory.data(), 128, 2, &consumed);
  RingWriter<MappedRing> writer(ring, 2);
  writer.commit(writer.claim(1), 5);
  writer.commit(writer.claim(1), 6);
  EXPECT_EQ(memory[0], 1u | 5ull << 32);
  EXPECT_EQ(memory[16], 2u | 6ull << 32);
  EXPECT_EQ(ring.slot(3), reinterpret_cast<std::byte*>(memory.data()) + 128);
}

TEST(CommitWord, WidensTheNumberPastThirtyTwoBits) {
  // Slot 2^32 - 1 carries 0, slot 2^32 carries 1: a lap earlier, at most 2^31 slots away, carries
  // another number.
  using Word = std::uint64_t;
  EXPECT_EQ((commit_word<Word, std::uint32_t>(0xFFFFFFFF, 9)), Word{9} << 32);
  EXPECT_EQ((commit_word<Word, std::uint32_t>(Word{1} << 32, 9)), (Word{9} << 32 | 1));
}

}  // namespace
}  // namespace moetrace
