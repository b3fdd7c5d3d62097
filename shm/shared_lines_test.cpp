#include "shm/shared_lines.hpp"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <thread>

namespace moetrace {
namespace {

using Lines = AlternatingLines<MappedLines>;
using Words = VersionedWords<MappedWords>;

struct Two {
  alignas(64) std::array<std::uint64_t, 16> words{};
  Lines lines{MappedLines(words.data())};
};

TEST(AlternatingLines, GivesTheNewest) {
  Two two;
  EXPECT_FALSE(two.lines.read());
  for (std::uint64_t n = 1; n < 10; ++n) {
    two.lines.write({n, {n * 10, n * 10 + 1}});
    const auto line = two.lines.read();
    ASSERT_TRUE(line);
    EXPECT_EQ(line->number, n);
    EXPECT_EQ(line->payload[0], n * 10);
    EXPECT_EQ(line->payload[1], n * 10 + 1);
  }
}

TEST(AlternatingLines, AWriterThatDiedInTheMiddleLeavesTheOtherLine) {
  Two two;
  two.lines.write({1, {10}});
  two.lines.write({2, {20}});
  two.words[8 + 1] = 30;  // number 3 goes to line 1: payload begun, number not stored
  const auto line = two.lines.read();
  ASSERT_TRUE(line);
  EXPECT_EQ(line->number, 2u);
  EXPECT_EQ(line->payload[0], 20u);
}

TEST(AlternatingLines, HostileNumbersEndTheTries) {
  Two two;
  two.words[0] = two.words[8] = 5;  // equal numbers never happen
  EXPECT_FALSE(two.lines.read());
}

// What the words of one write have to do with each other; on real threads, as a complement to the
// model.
TEST(AlternatingLines, ThreadsNeverSeeAMixture) {
  Two two;
  std::atomic<bool> done = false;
  std::thread writer([&] {
    for (std::uint64_t n = 1; n <= 200'000; ++n) two.lines.write({n, {n, n, n, n, n, n, n}});
    done = true;
  });
  std::uint64_t seen = 0;
  while (!done) {
    if (const auto line = two.lines.read()) {
      for (const std::uint64_t word : line->payload) ASSERT_EQ(word, line->number);
      ASSERT_GE(line->number, seen);
      seen = line->number;
    }
  }
  writer.join();
  EXPECT_EQ(two.lines.read()->number, 200'000u);
}

struct Guarded {
  std::uint64_t version = 0;
  std::array<std::uint64_t, 5> data{};
  Words words{MappedWords(&version, data.data())};

  std::optional<std::uint64_t> read(std::array<std::uint64_t, 5>& copy) {
    return words.read(5, [&](std::size_t w, std::uint64_t value) { copy[w] = value; });
  }
};

TEST(VersionedWords, RoundTripAndVersion) {
  Guarded g;
  g.words.write(5, [](std::size_t w) { return w + 100; });
  std::array<std::uint64_t, 5> copy{};
  EXPECT_EQ(g.read(copy), 2u);
  EXPECT_EQ(copy[4], 104u);
}

TEST(VersionedWords, AWriterThatDiedLeavesReadersWithoutAndIsTakenOver) {
  Guarded g;
  g.version = 7;
  std::array<std::uint64_t, 5> copy{};
  EXPECT_FALSE(g.read(copy));
  g.words.write(5, [](std::size_t w) { return w; });
  EXPECT_EQ(g.read(copy), 8u);
}

TEST(VersionedWords, ThreadsNeverSeeAMixture) {
  Guarded g;
  std::atomic<bool> done = false;
  std::thread writer([&] {
    for (std::uint64_t n = 1; n <= 200'000; ++n) g.words.write(5, [&](std::size_t) { return n; });
    done = true;
  });
  std::array<std::uint64_t, 5> copy{};
  while (!done) {
    if (g.read(copy)) {
      for (const std::uint64_t word : copy) ASSERT_EQ(word, copy[0]);
    }
  }
  writer.join();
  ASSERT_EQ(g.read(copy), 400'000u);
  EXPECT_EQ(copy[0], 200'000u);
}

}  // namespace
}  // namespace moetrace
