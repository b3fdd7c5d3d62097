// Which layers and rows the host hook accepts, and when a step ends.

#include "producer/test_hooked.hpp"

namespace moetrace {
namespace {

TEST(HostHook, ARepeatedOrEarlierLayerIsIgnored) {
  Hooked t;
  t.announce(1);
  t.record(1, 1);
  t.record(1, 1);
  t.record(0, 1);
  EXPECT_EQ(t.reader.routes().size(), 1u);
  EXPECT_FALSE(read_snapshot(t.map())) << "not over yet";
  t.record(2, 1);
  EXPECT_EQ(t.reader.routes().size(), 1u);
  EXPECT_EQ(t.snapshot().steps_done, 1u);
  t.record(2, 1);
  EXPECT_TRUE(t.reader.routes().empty()) << "the step is over";
}

TEST(HostHook, UnselectedAndUnknownLayersAreIgnored) {
  moetrace_ring_header header = small_header(2);
  header.layers_logged.words[0] = 0b010;
  Bench t(header);
  t.hook.arm(t.announcer.announce(1, {}));
  const std::int64_t ids[] = {0, 1};
  for (const std::uint32_t layer : {0u, 2u, 3u, 63u, 64u, 255u, 256u, 1u << 31, UINT32_MAX}) {
    t.hook.record(layer, ids, MOETRACE_INT64, nullptr, MOETRACE_FLOAT32, 1);
  }
  EXPECT_TRUE(t.reader.routes().empty());
  t.hook.record(1, ids, MOETRACE_INT64, nullptr, MOETRACE_FLOAT32, 1);
  EXPECT_EQ(t.reader.routes().size(), 1u);
  EXPECT_EQ(t.snapshot().steps_done, 1u) << "its last selected layer was recorded";
}

TEST(HostHook, UnannouncedPassesLeaveNothing) {
  Hooked t;
  t.record(0, 4);
  t.announce(2);
  for (std::uint32_t layer = 0; layer < 3; ++layer) t.record(layer, 2);
  t.reader.routes();
  for (std::uint32_t layer = 0; layer < 3; ++layer) t.record(layer, 2);  // a warm-up pass
  EXPECT_TRUE(t.reader.routes().empty());
  t.hook.close();
  EXPECT_EQ(t.counted(), 12u);
}

TEST(HostHook, PaddingRowsLeaveNothing) {
  Hooked t;
  t.announce(3);
  for (std::uint32_t layer = 0; layer < 3; ++layer) t.record(layer, 8);
  EXPECT_EQ(t.reader.routes().size(), 9u);
  t.hook.close();
  EXPECT_EQ(t.counted(), 18u);
}

TEST(HostHook, AnAbortedPassCannotBeFinished) {
  Hooked t;
  t.announce(2);
  t.record(0, 2);
  t.hook.arm({});
  EXPECT_EQ(t.snapshot().steps_done, 1u);
  t.record(1, 2);
  t.record(2, 2);
  EXPECT_EQ(t.reader.routes().size(), 2u) << "earlier records stay; the rest is torn";
  t.hook.arm({});
  EXPECT_EQ(t.snapshot().number, 1u) << "nothing was open";
}

TEST(HostHook, ANewAnnouncementEndsTheOpenStep) {
  Hooked t;
  t.announce(2);
  t.record(0, 2);
  t.announce(2);
  EXPECT_EQ(t.snapshot().steps_done, 1u);
  t.record(0, 2);
  EXPECT_EQ(t.reader.routes().back().step, 1u);
}

TEST(HostHook, AStepWithoutLayersIsOverAtOnce) {
  Hooked t;
  t.hook.arm(t.announcer.announce_layers(2, {}, {}));
  EXPECT_EQ(t.snapshot().steps_done, 1u);
  t.record(0, 2);
  EXPECT_TRUE(t.reader.routes().empty());
}

TEST(HostHook, ACountingStepCountsAndEnds) {
  Hooked t;
  StepBlock block = t.announcer.announce(2, {});
  block.record = false;
  t.hook.arm(block);
  for (std::uint32_t layer = 0; layer < 3; ++layer) t.record(layer, 2);
  EXPECT_TRUE(t.reader.routes().empty());
  EXPECT_EQ(t.hook.dropped(), 0u) << "the announcement counts its rows as lost";
  EXPECT_EQ(t.snapshot().steps_done, 1u);
  t.hook.close();
  EXPECT_EQ(t.counts()[0], 1u);
}

}  // namespace
}  // namespace moetrace
