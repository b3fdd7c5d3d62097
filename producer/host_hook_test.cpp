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

// Layer 0: the header's; 1: top-3 of 5 + 1 ids; 2: top-1, of any id.
std::vector<moetrace_layer_entry> mixed_layers() {
  std::vector<moetrace_layer_entry> layers(3);
  layers[1].top_k = 3;
  layers[1].experts = 5;
  layers[1].zero_experts = 1;
  layers[1].flags = MOETRACE_LAYER_ZERO_EXPERTS_KNOWN;
  layers[2].top_k = 1;
  return layers;
}

TEST(HostHook, EachLayerHasItsOwnTopKAndIds) {
  // A stride of 64 and of 128 bytes; one row takes the fast path.
  for (const std::uint32_t top_k : {4u, 9u}) {
    for (const std::uint32_t rows : {1u, 2u}) {
      Bench t(small_header(top_k), kSmallSizes, mixed_layers());
      t.hook.arm(t.announcer.announce(rows, {}));
      const std::vector<std::int32_t> ids = {5, 6, 7, 4, 5, 6, 0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3};
      const std::vector<float> weights(ids.size(), 0.5f);
      for (std::uint32_t layer = 0; layer < 3; ++layer) {
        t.hook.record(layer, ids.data(), MOETRACE_INT32, weights.data(), MOETRACE_FLOAT32, rows);
      }
      const auto routes = t.reader.routes();
      ASSERT_EQ(routes.size(), 3 * rows);
      const std::size_t entries = RouteLayout::of_top_k(top_k).entries();
      for (const RouteRow& route : routes) {
        const std::size_t k = route.layer == 0 ? top_k : route.layer == 1 ? 3 : 1;
        const std::int32_t below = route.layer == 1 ? 6 : 8;
        ASSERT_EQ(route.expert.size(), entries);
        for (std::size_t n = 0; n < entries; ++n) {
          const std::int32_t id = n < k ? ids[route.row * k + n] : below;
          EXPECT_EQ(route.expert[n], id < below ? id : 0xFFFF) << route.layer << ", " << n;
          EXPECT_EQ(route.weight[n], n < k ? 0.5f : 0.0f) << route.layer << ", " << n;
        }
      }
      t.hook.close();
      const std::uint64_t* const counts = t.map().counts();
      EXPECT_EQ(counts[8 + 5], rows) << "of the layer's own rows";
      EXPECT_EQ(counts[8 + 6] + counts[8 + 7], 0u) << "ids that layer 1 does not have";
      EXPECT_EQ(counts[16 + 5] + counts[16 + 6], rows);
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
