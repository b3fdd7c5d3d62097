// What the host hook writes, and what happens when the ring is full.
#include "producer/host_hook.hpp"

#include "producer/test_hooked.hpp"

namespace moetrace {
namespace {

TEST(HostHook, WritesEveryFieldOfEveryRow) {
  Hooked t;
  for (int pass = 0; pass < 3; ++pass) {
    t.announce(4);
    for (std::uint32_t layer = 0; layer < 3; ++layer) t.record(layer, 4);
    const auto rows = t.reader.routes();
    ASSERT_EQ(rows.size(), 12u);
    for (std::size_t n = 0; n < rows.size(); ++n) {
      EXPECT_EQ(rows[n].seq, static_cast<std::uint64_t>(pass) * 12 + n);
      EXPECT_EQ(rows[n].step, static_cast<std::uint32_t>(pass));
      EXPECT_EQ(rows[n].layer, n / 4);
      EXPECT_EQ(rows[n].row, n % 4);
      EXPECT_EQ(rows[n].flags, 0u);
      const auto row = static_cast<std::uint16_t>(n % 4);
      EXPECT_EQ(rows[n].expert,
                (std::vector<std::uint16_t>{row, static_cast<std::uint16_t>(row + 1), 0xFFFF,
                                            0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF}));
      EXPECT_EQ(rows[n].weight, (std::vector<float>{static_cast<float>(n / 4),
                                                    static_cast<float>(row), 0, 0, 0, 0, 0, 0}));
    }
  }
}

TEST(HostHook, AFullRingDropsTheNewestAndCountsThem) {
  Hooked t;  // 64 route slots
  t.announce(30);
  t.record(0, 30);
  t.record(1, 30);
  t.record(2, 30);  // four fit
  const auto rows = t.reader.routes(false);
  ASSERT_EQ(rows.size(), 64u);
  EXPECT_EQ(rows.back().layer, 2u);
  EXPECT_EQ(rows.back().row, 3u);
  EXPECT_EQ(t.hook.dropped(), 26u);
  EXPECT_EQ(t.hook.claimed(), 64u);
  EXPECT_EQ(t.snapshot().steps_done, 1u) << "the step ends all the same";
  EXPECT_EQ(t.snapshot().claimed, 64u);
  EXPECT_EQ(t.snapshot().dropped, 26u);
  t.reader.routes();  // publishes
  t.announce(1);
  t.record(0, 1);
  const auto next = t.reader.routes();
  ASSERT_EQ(next.size(), 1u);
  EXPECT_EQ(next[0].seq, 64u) << "a dropped row takes no slot number";
  t.hook.close();
  // Expert 0 is picked by rows 0, 7, 8, 15, 16, 23, 24 of 30.
  EXPECT_EQ(t.counts()[0], 7 + 1u) << "layer 0, both passes";
  EXPECT_EQ(t.counts()[16], 7u) << "layer 2: dropped rows are counted too";
}

TEST(HostHook, AFullRingDropsSingleRowsAsWell) {
  Hooked t;  // 64 route slots
  for (int pass = 0; pass < 22; ++pass) {
    t.announce(1);
    for (std::uint32_t layer = 0; layer < 3; ++layer) t.record(layer, 1);
  }
  EXPECT_EQ(t.hook.claimed(), 64u);
  EXPECT_EQ(t.hook.dropped(), 2u);
  EXPECT_EQ(t.snapshot().steps_done, 22u) << "the step ends all the same";
  EXPECT_EQ(t.reader.routes().size(), 64u);  // publishes
  t.announce(1);
  t.record(0, 1);
  const auto next = t.reader.routes();
  ASSERT_EQ(next.size(), 1u);
  EXPECT_EQ(next[0].seq, 64u);
  EXPECT_EQ(next[0].step, 22u);
  t.hook.close();
  EXPECT_EQ(t.counts()[16], 22u) << "a dropped row is counted too";
}

TEST(HostHook, AHostileConsumedPositionOverwritesNothing) {
  for (const std::uint64_t lie : {std::uint64_t{65}, std::uint64_t{1} << 32, UINT64_MAX}) {
    Hooked t;
    t.announce(64);
    t.record(0, 64);
    t.map().ctl()->route_consumed = lie;
    t.record(1, 64);
    EXPECT_EQ(t.hook.claimed(), 64u);
    EXPECT_EQ(t.hook.dropped(), 64u);
  }
}

}  // namespace
}  // namespace moetrace
