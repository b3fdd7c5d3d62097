// The host hook converts ids and weights of every type.
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

#include "producer/test_hooked.hpp"
#include "shm/route_layout.hpp"

namespace moetrace {
namespace {

// For each weight type: reads back what a plain conversion gives. In passes of `pass_rows` rows,
// because a call for one row takes a fast path.
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

// The weight that is recorded for a half-precision bit pattern.
float recorded_float16(std::uint16_t bits) {
  Bench t(small_header(1));
  t.hook.arm(t.announcer.announce(1, {}));
  const std::int64_t id = 0;
  t.hook.record(0, &id, MOETRACE_INT64, &bits, MOETRACE_FLOAT16, 1);
  return t.reader.routes().at(0).weight.at(0);
}

TEST(HostHook, HalfPrecisionCornersAreExact) {
  EXPECT_EQ(recorded_float16(0x3C00), 1.0f);
  EXPECT_EQ(recorded_float16(0x7BFF), 65504.0f);
  EXPECT_EQ(recorded_float16(0xC000), -2.0f);
  EXPECT_EQ(recorded_float16(0x0001), 0x1p-24f) << "the smallest subnormal";
  EXPECT_EQ(recorded_float16(0x83FF), -1023 * 0x1p-24f) << "the largest, negative";
  EXPECT_EQ(recorded_float16(0x0400), 0x1p-14f) << "the smallest normal";
  EXPECT_TRUE(std::signbit(recorded_float16(0x8000)));
  EXPECT_EQ(recorded_float16(0x7C00), std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::isnan(recorded_float16(0x7E01)));
}

TEST(HostHook, IdsOutOfRangeAreNoExpertAndUncounted) {
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

TEST(HostHook, FloatWeightsKeepTheirBits) {
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

}  // namespace
}  // namespace moetrace
