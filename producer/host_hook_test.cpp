#include "producer/host_hook.hpp"

#include <bit>
#include <chrono>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "shm/layer_mask.hpp"
#include "producer/test_segment.hpp"

namespace moetrace {
namespace {

// Three layers of eight experts, top-2: what most of these tests record.
struct Hooked : Bench {
  explicit Hooked(const SegmentSizes& sizes = kSmallSizes) : Bench(small_header(2), sizes) {}

  StepBlock announce(std::uint32_t rows) {
    const StepBlock block = announcer.announce(rows, {});
    hook.arm(block);
    return block;
  }
  // Rows whose ids are (row, row + 1) and whose weights are (layer, row).
  void record(std::uint32_t layer, std::uint32_t rows) {
    std::vector<std::int64_t> ids;
    std::vector<float> weights;
    for (std::uint32_t row = 0; row < rows; ++row) {
      ids.insert(ids.end(), {row % 8, (row + 1) % 8});
      weights.insert(weights.end(), {static_cast<float>(layer), static_cast<float>(row)});
    }
    hook.record(layer, ids.data(), MOETRACE_INT64, weights.data(), MOETRACE_FLOAT32, rows);
  }
  std::vector<std::uint64_t> counts() const {
    const std::uint64_t* table = map().counts();
    return {table, table + 24};
  }
};

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

// Every (id type, weight type, top-k): what is read back is what a plain conversion gives. In
// passes of `pass_rows` rows, because a call for one row has a way of its own.
template <class Id>
void check_types(moetrace_type id_type, std::uint32_t top_k, std::uint32_t pass_rows) {
  constexpr std::uint32_t kRows = 6;
  std::vector<Id> ids(kRows * top_k);
  for (std::size_t n = 0; n < ids.size(); ++n) ids[n] = static_cast<Id>(n * 7 % 8);
  std::vector<float> floats(ids.size());
  std::vector<std::uint16_t> bfloats(ids.size());
  std::vector<std::uint16_t> halves(ids.size());
  for (std::size_t n = 0; n < floats.size(); ++n) {
    floats[n] = 1.0f / static_cast<float>(n + 3);
    bfloats[n] = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(floats[n]) >> 16);
    halves[n] = static_cast<std::uint16_t>((10 + n % 5) << 10 | n);  // 2^(e - 15) * (1 + n / 1024)
  }
  struct Weights {
    moetrace_type type;
    const void* data;
  };
  for (const Weights weights :
       {Weights{MOETRACE_FLOAT32, floats.data()}, Weights{MOETRACE_BFLOAT16, bfloats.data()},
        Weights{MOETRACE_FLOAT16, halves.data()}, Weights{MOETRACE_FLOAT32, nullptr}}) {
    Bench t(small_header(top_k));
    const std::size_t weight_bytes = weights.data == floats.data() ? 4 : 2;
    for (std::size_t row = 0; row < kRows; row += pass_rows) {
      const std::size_t entry = row * top_k;
      t.hook.arm(t.announcer.announce(pass_rows, {}));
      t.hook.record(1, ids.data() + entry, id_type,
                    weights.data == nullptr
                        ? nullptr
                        : static_cast<const std::byte*>(weights.data) + entry * weight_bytes,
                    weights.type, pass_rows);
    }
    const auto rows = t.reader.routes();
    ASSERT_EQ(rows.size(), kRows);
    t.hook.close();
    std::vector<std::uint64_t> counts(24);
    for (std::size_t n = 0; n < ids.size(); ++n) ++counts[8 + n * 7 % 8];
    ASSERT_EQ(std::vector<std::uint64_t>(t.map().counts(), t.map().counts() + 24), counts);
    for (std::size_t row = 0; row < kRows; ++row) {
      ASSERT_EQ(rows[row].row, row % pass_rows);
      ASSERT_EQ(rows[row].step, row / pass_rows);
      ASSERT_EQ(rows[row].layer, 1u);
      ASSERT_EQ(rows[row].flags, 0u);
      ASSERT_EQ(rows[row].expert.size(), RouteLayout::of_top_k(top_k).entries());
      for (std::size_t k = 0; k < rows[row].expert.size(); ++k) {
        const std::size_t n = row * top_k + k;
        if (k >= top_k) {
          ASSERT_EQ(rows[row].expert[k], MOETRACE_NO_EXPERT);
          ASSERT_EQ(rows[row].weight[k], 0.0f);
          continue;
        }
        ASSERT_EQ(rows[row].expert[k], n * 7 % 8);
        if (weights.data == nullptr) {
          ASSERT_TRUE(std::isnan(rows[row].weight[k]));
        } else if (weights.type == MOETRACE_FLOAT32) {
          ASSERT_EQ(rows[row].weight[k], floats[n]);
        } else if (weights.type == MOETRACE_BFLOAT16) {
          ASSERT_EQ(std::bit_cast<std::uint32_t>(rows[row].weight[k]),
                    std::uint32_t{bfloats[n]} << 16);
        } else {
          ASSERT_EQ(rows[row].weight[k], std::ldexp(1.0f + static_cast<float>(n) / 1024,
                                                    10 + static_cast<int>(n % 5) - 15));
        }
      }
    }
  }
}

class TopK : public ::testing::TestWithParam<std::uint32_t> {};
TEST_P(TopK, AllTypes) {
  for (const std::uint32_t pass_rows : {1u, 3u, 6u}) {
    check_types<std::int16_t>(MOETRACE_INT16, GetParam(), pass_rows);
    check_types<std::int32_t>(MOETRACE_INT32, GetParam(), pass_rows);
    check_types<std::int64_t>(MOETRACE_INT64, GetParam(), pass_rows);
    check_types<std::uint32_t>(MOETRACE_UINT32, GetParam(), pass_rows);
  }
}
INSTANTIATE_TEST_SUITE_P(OneToThirtyTwo, TopK, ::testing::Range(1u, 33u),
                         ::testing::PrintToStringParamName());

// The weight that comes out for a half-precision bit pattern.
float through_float16(std::uint16_t bits) {
  Bench t(small_header(1));
  t.hook.arm(t.announcer.announce(1, {}));
  const std::int64_t id = 0;
  t.hook.record(0, &id, MOETRACE_INT64, &bits, MOETRACE_FLOAT16, 1);
  return t.reader.routes().at(0).weight.at(0);
}

// A call over many rows takes far longer than a look at the clock.
TEST(HostHook, EstimatesItsCostFromSomeCalls) {
  SegmentSizes sizes = kSmallSizes;
  sizes.route_slots = 1 << 16;
  Hooked t(sizes);
  // At a time that stands still, because mirroring the counts, every 10 ms, has a cost of its own.
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
  // The first pass has a timed call. It is taken again as long as the machine is called away in it.
  for (int tries = 0; cost == 0 && tries < 1000; ++tries) cost = pass(300);
  EXPECT_GT(cost, 0u);
  announce(300);
  announce(300);
  EXPECT_EQ(t.hook.cost_ns(), cost) << "no layer has come, so no call was timed";
  const auto wall_ns = static_cast<std::uint64_t>((std::chrono::steady_clock::now() - begin) /
                                                  std::chrono::nanoseconds(1));
  EXPECT_LT(cost, 10 * wall_ns) << "one layer stands for three: no less than a third is in it";
  // Too few records for a sample of their own: they are counted at the end.
  cost = t.hook.cost_ns();
  t.hook.close();
  EXPECT_GT(t.hook.cost_ns(), cost);
}

TEST(HostHook, TimedCallsRecordAsTheOthersDo) {
  SegmentSizes sizes = kSmallSizes;
  sizes.route_slots = 1 << 12;
  sizes.event_slots = 1 << 12;
  Hooked t(sizes);
  // Far enough for a sample in each of the three layers.
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

TEST(HostHook, HalfPrecisionCornersAreExact) {
  EXPECT_EQ(through_float16(0x3C00), 1.0f);
  EXPECT_EQ(through_float16(0x7BFF), 65504.0f);
  EXPECT_EQ(through_float16(0xC000), -2.0f);
  EXPECT_EQ(through_float16(0x0001), 0x1p-24f) << "the smallest subnormal";
  EXPECT_EQ(through_float16(0x83FF), -1023 * 0x1p-24f) << "the largest, negative";
  EXPECT_EQ(through_float16(0x0400), 0x1p-14f) << "the smallest normal";
  EXPECT_TRUE(std::signbit(through_float16(0x8000)));
  EXPECT_EQ(through_float16(0x7C00), std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::isnan(through_float16(0x7E01)));
}

TEST(HostHook, IdsOutOfRangeAreNoneAndUncounted) {
  Bench t(small_header(4));
  t.hook.arm(t.announcer.announce(1, {}));
  const std::int64_t wide[] = {7, 8, -1, (std::int64_t{1} << 32) + 3};
  t.hook.record(0, wide, MOETRACE_INT64, nullptr, MOETRACE_FLOAT32, 1);
  const std::int16_t narrow[] = {-1, -32768, 32767, 0};
  t.hook.record(1, narrow, MOETRACE_INT16, nullptr, MOETRACE_FLOAT32, 1);
  const std::uint32_t u32[] = {0xFFFFFFFF, 8, 7, 0};
  t.hook.record(2, u32, MOETRACE_UINT32, nullptr, MOETRACE_FLOAT32, 1);
  t.hook.close();
  const auto rows = t.reader.routes();
  const auto first_four = [&](std::size_t n) {
    return std::vector<std::uint16_t>(rows.at(n).expert.begin(), rows.at(n).expert.begin() + 4);
  };
  EXPECT_EQ(first_four(0), (std::vector<std::uint16_t>{7, 0xFFFF, 0xFFFF, 0xFFFF}));
  EXPECT_EQ(first_four(1), (std::vector<std::uint16_t>{0xFFFF, 0xFFFF, 0xFFFF, 0}));
  EXPECT_EQ(first_four(2), (std::vector<std::uint16_t>{0xFFFF, 0xFFFF, 7, 0}));
  EXPECT_EQ(std::accumulate(t.map().counts(), t.map().counts() + 24, std::uint64_t{0}), 4u);
}

TEST(HostHook, WeightsPassAsTheyAre) {
  Bench t(small_header(4));
  t.hook.arm(t.announcer.announce(1, {}));
  const std::int64_t ids[] = {0, 1, 2, 3};
  const float weights[] = {std::bit_cast<float>(0x7FC12345u),
                           std::numeric_limits<float>::infinity(), -0.0f, 1e-45f};
  t.hook.record(0, ids, MOETRACE_INT64, weights, MOETRACE_FLOAT32, 1);
  const auto row = t.reader.routes().at(0);
  for (int k = 0; k < 4; ++k) {
    EXPECT_EQ(std::bit_cast<std::uint32_t>(row.weight[k]), std::bit_cast<std::uint32_t>(weights[k]))
        << k;
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
  EXPECT_EQ(t.snapshot().payload[0], 1u) << "the step is over nevertheless";
  EXPECT_EQ(t.snapshot().payload[1], 64u);
  EXPECT_EQ(t.snapshot().payload[2], 26u);
  t.reader.routes();  // publishes
  t.announce(1);
  t.record(0, 1);
  const auto next = t.reader.routes();
  ASSERT_EQ(next.size(), 1u);
  EXPECT_EQ(next[0].seq, 64u) << "a dropped row takes no number";
  t.hook.close();
  // Expert 0 is picked by rows 0, 7, 8, 15, 16, 23, 24 of 30.
  EXPECT_EQ(t.counts()[0], 7 + 1u) << "layer 0, both passes";
  EXPECT_EQ(t.counts()[16], 7u) << "layer 2: dropped rows are counted, too";
}

TEST(HostHook, AFullRingDropsSingleRowsAsWell) {
  Hooked t;  // 64 route slots
  for (int pass = 0; pass < 22; ++pass) {
    t.announce(1);
    for (std::uint32_t layer = 0; layer < 3; ++layer) t.record(layer, 1);
  }
  EXPECT_EQ(t.hook.claimed(), 64u);
  EXPECT_EQ(t.hook.dropped(), 2u);
  EXPECT_EQ(t.snapshot().payload[0], 22u) << "the step is over nevertheless";
  EXPECT_EQ(t.reader.routes().size(), 64u);  // publishes
  t.announce(1);
  t.record(0, 1);
  const auto next = t.reader.routes();
  ASSERT_EQ(next.size(), 1u);
  EXPECT_EQ(next[0].seq, 64u);
  EXPECT_EQ(next[0].step, 22u);
  t.hook.close();
  EXPECT_EQ(t.counts()[16], 22u) << "a dropped row is counted, too";
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

TEST(HostHook, ALayerThatWasSeenIsIgnored) {
  Hooked t;
  t.announce(1);
  t.record(1, 1);
  t.record(1, 1);
  t.record(0, 1);
  EXPECT_EQ(t.reader.routes().size(), 1u);
  EXPECT_FALSE(t.map().snapshots().read()) << "not over yet";
  t.record(2, 1);
  EXPECT_EQ(t.reader.routes().size(), 1u);
  EXPECT_EQ(t.snapshot().payload[0], 1u);
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
  EXPECT_EQ(t.snapshot().payload[0], 1u) << "its last selected layer has passed";
}

TEST(HostHook, WhatNobodyAnnouncedLeavesNothing) {
  Hooked t;
  t.record(0, 4);
  t.announce(2);
  for (std::uint32_t layer = 0; layer < 3; ++layer) t.record(layer, 2);
  t.reader.routes();
  for (std::uint32_t layer = 0; layer < 3; ++layer) t.record(layer, 2);  // a warm-up pass
  EXPECT_TRUE(t.reader.routes().empty());
  t.hook.close();
  const auto counts = t.counts();
  EXPECT_EQ(std::accumulate(counts.begin(), counts.end(), std::uint64_t{0}), 12u);
}

TEST(HostHook, PaddingRowsLeaveNothing) {
  Hooked t;
  t.announce(3);
  for (std::uint32_t layer = 0; layer < 3; ++layer) t.record(layer, 8);
  EXPECT_EQ(t.reader.routes().size(), 9u);
  t.hook.close();
  const auto counts = t.counts();
  EXPECT_EQ(std::accumulate(counts.begin(), counts.end(), std::uint64_t{0}), 18u);
}

TEST(HostHook, AnAbortedPassIsOverAndCantBeFinished) {
  Hooked t;
  t.announce(2);
  t.record(0, 2);
  t.hook.arm({});
  EXPECT_EQ(t.snapshot().payload[0], 1u);
  t.record(1, 2);
  t.record(2, 2);
  EXPECT_EQ(t.reader.routes().size(), 2u) << "what had been recorded stays; the rest is torn";
  t.hook.arm({});
  EXPECT_EQ(t.snapshot().number, 1u) << "nothing was open";
}

TEST(HostHook, ANewAnnouncementEndsTheOpenStep) {
  Hooked t;
  t.announce(2);
  t.record(0, 2);
  t.announce(2);
  EXPECT_EQ(t.snapshot().payload[0], 1u);
  t.record(0, 2);
  EXPECT_EQ(t.reader.routes().back().step, 1u);
}

TEST(HostHook, AStepWithoutLayersIsOverAtOnce) {
  Hooked t;
  t.hook.arm(t.announcer.announce_layers(2, {}, {}));
  EXPECT_EQ(t.snapshot().payload[0], 1u);
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
  EXPECT_EQ(t.hook.dropped(), 0u) << "its rows are the announcement's loss";
  EXPECT_EQ(t.snapshot().payload[0], 1u);
  t.hook.close();
  EXPECT_EQ(t.counts()[0], 1u);
}

TEST(HostHook, AnUnknownIdTypeLeavesItsRowsTorn) {
  Hooked t;
  t.announce(1);
  const std::int64_t ids[] = {0, 1};
  t.hook.record(0, ids, MOETRACE_FLOAT32, nullptr, MOETRACE_FLOAT32, 1);
  EXPECT_TRUE(t.reader.routes().empty());
  t.hook.record(0, ids, MOETRACE_INT64, ids, MOETRACE_INT64, 1);
  EXPECT_TRUE(std::isnan(t.reader.routes().at(0).weight[0]))
      << "an unknown weight type is an unknown weight";
}

TEST(HostHook, MirroredCountsAreExactAsOfTheirStep) {
  Hooked t;
  std::mt19937 random(5);
  std::vector<std::uint64_t> expected(24);
  for (int pass = 0; pass < 50; ++pass) {
    StepBlock block = t.announcer.announce(8, {});
    block.time_ns = std::int64_t{pass} * 20'000'000;  // 20 ms a step: each is due
    t.hook.arm(block);
    for (std::uint32_t layer = 0; layer < 3; ++layer) {
      std::int32_t ids[16];
      for (auto& id : ids)
        ++expected[layer * 8 + static_cast<std::size_t>(id = static_cast<int>(random() % 8))];
      t.hook.record(layer, ids, MOETRACE_INT32, nullptr, MOETRACE_FLOAT32, 8);
    }
    t.reader.routes();
    t.reader.events();
    if (pass == 0) continue;  // the first is due 10 ms after the start
    std::vector<std::uint64_t> seen(25);
    const auto version =
        VersionedWords<CountsWords>(CountsWords(t.map()))
            .read(25, [&](std::size_t w, std::uint64_t value) { seen[w] = value; });
    ASSERT_TRUE(version);
    EXPECT_EQ(seen[0], block.step + 1);
    EXPECT_EQ(std::vector<std::uint64_t>(seen.begin() + 1, seen.end()), expected);
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

}  // namespace
}  // namespace moetrace
