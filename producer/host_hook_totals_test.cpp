// What the host hook sums up: the mirrored counts, and an estimate of its own cost.
#include <chrono>
#include <random>

#include "producer/test_hooked.hpp"
#include "shm/counts_words.hpp"

namespace moetrace {
namespace {

TEST(HostHook, MirroredCountsAreExactAsOfTheirStep) {
  Hooked t;
  std::mt19937 random(5);
  std::vector<std::uint64_t> expected(24);
  for (int pass = 0; pass < 50; ++pass) {
    StepBlock block = t.announcer.announce(8, {});
    // 20 ms a step, so that each step mirrors.
    block.time_ns = std::int64_t{pass} * 20'000'000;
    t.hook.arm(block);
    for (std::uint32_t layer = 0; layer < 3; ++layer) {
      std::int32_t ids[16];
      for (auto& id : ids)
        ++expected[layer * 8 + static_cast<std::size_t>(id = static_cast<int>(random() % 8))];
      t.hook.record(layer, ids, MOETRACE_INT32, nullptr, MOETRACE_FLOAT32, 8);
    }
    t.reader.routes();
    t.reader.events();
    // Nothing is mirrored in the first 10 ms.
    if (pass == 0) continue;
    const auto seen = read_counts(t.map());
    ASSERT_TRUE(seen);
    EXPECT_EQ(seen->steps_done, block.step + 1);
    EXPECT_EQ(seen->table, expected);
  }
}

TEST(HostHook, CountsAreMirroredAtMostEveryTenMilliseconds) {
  Hooked t;
  const auto run_at = [&](std::int64_t time_ns) {
    StepBlock block = t.announcer.announce(1, {});
    block.time_ns = time_ns;
    t.hook.arm(block);
    for (std::uint32_t layer = 0; layer < 3; ++layer) t.record(layer, 1);
    return t.map().state()->counts.version;
  };
  EXPECT_EQ(run_at(9'999'999), 0u);
  EXPECT_EQ(run_at(10'000'000), 2u);
  EXPECT_EQ(run_at(19'999'999), 2u);
  EXPECT_EQ(run_at(20'000'000), 4u);
  t.hook.close();
  EXPECT_EQ(t.map().state()->counts.steps_done, 4u);
}

// With many rows a call takes far longer than reading the clock.
TEST(HostHook, EstimatesItsCostFromASample) {
  SegmentSizes sizes = kSmallSizes;
  sizes.route_slots = 1 << 16;
  Hooked t(sizes);
  // With a constant time, because mirroring the counts, every 10 ms, has its own cost.
  const auto announce = [&](std::uint32_t rows) {
    StepBlock block = t.announcer.announce(rows, {});
    block.time_ns = 0;
    t.hook.arm(block);
  };
  const auto pass = [&](std::uint32_t rows) {
    announce(rows);
    for (std::uint32_t layer = 0; layer < 3; ++layer) t.record(layer, rows);
    return t.hook.cost_ns();
  };
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(t.hook.cost_ns(), 0u);
  std::uint64_t cost = 0;
  // The first pass has a timed call. Repeat it while the scheduler interrupts the call.
  for (int tries = 0; cost == 0 && tries < 1000; ++tries) cost = pass(300);
  EXPECT_GT(cost, 0u);
  announce(300);
  announce(300);
  EXPECT_EQ(t.hook.cost_ns(), cost) << "without a recorded layer no call is timed";
  const auto wall_ns = static_cast<std::uint64_t>((std::chrono::steady_clock::now() - begin) /
                                                  std::chrono::nanoseconds(1));
  EXPECT_LT(cost, 10 * wall_ns) << "one layer stands for three";
  // The last records are too few for another sample; close() adds them.
  cost = t.hook.cost_ns();
  t.hook.close();
  EXPECT_GT(t.hook.cost_ns(), cost);
}

TEST(HostHook, TimedCallsRecordLikeOthers) {
  SegmentSizes sizes = kSmallSizes;
  sizes.route_slots = 1 << 12;
  sizes.event_slots = 1 << 12;
  Hooked t(sizes);
  // Enough passes for a sample in each of the three layers.
  for (int n = 0; n < 1'000; ++n) {
    t.announce(1);
    for (std::uint32_t layer = 0; layer < 3; ++layer) t.record(layer, 1);
  }
  const auto routes = t.reader.routes();
  ASSERT_EQ(routes.size(), 3'000u);
  for (std::size_t n = 0; n < routes.size(); ++n) {
    EXPECT_EQ(routes[n].step, n / 3);
    EXPECT_EQ(routes[n].layer, n % 3);
  }
}

}  // namespace
}  // namespace moetrace
