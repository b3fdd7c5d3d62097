#include "daemon/collector/route_text.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <charconv>
#include <random>

#include "daemon/collector/float_text.hpp"

namespace moetrace {
namespace {

TEST(FloatText, IsWhatToCharsWrites) {
  std::mt19937 random(1);
  const auto check = [](float value) {
    char ours[64];
    char theirs[64];
    const std::string_view got(ours, static_cast<std::size_t>(put_float(ours, value) - ours));
    const std::string_view expected(
        theirs, static_cast<std::size_t>(std::to_chars(theirs, theirs + 64, value).ptr - theirs));
    EXPECT_EQ(got, expected);
  };
  for (int n = 0; n < 300000; ++n) {
    const float any = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
    if (std::isfinite(any)) check(any);
    check(static_cast<float>(random()) * 0x1p-32f);  // [0, 1]
    check(static_cast<float>(random() % 100000) / 100000.0f);
  }
  for (const float value :
       {0.0f, -0.0f, 1.0f, 0x1p-13f, 0.0001f, 0.001f, 0.1f, 0.5f, 1e-5f, 3e38f, 1.17549435e-38f})
    check(value);
}

TEST(RouteText, WritesTheLongestLine) {
  const RouteText text(LayerTable(256, 65535, 32));
  std::vector<std::uint16_t> ids(32, 65534);
  std::vector<float> weights(32, -1.17549435e-38f);
  LineBuffer out;
  const RouteOrigin origin = route_origin(json_string(std::string(255, '\x01')), UINT64_MAX);
  text.append(out, origin, UINT64_MAX, 255, ids.data(), weights.data(),
              RouteText::step_text(UINT64_MAX), UINT64_MAX);
  EXPECT_TRUE(
      out.view().ends_with("\"step\":18446744073709551615,\"seq\":18446744073709551615}\n"));
  EXPECT_NE(out.view().find(",\"layer\":255,\"topk_ids\":[65534,65534,"), std::string_view::npos);
  EXPECT_NE(out.view().find("65534],\"topk_weights\":[-1.1754944e-38,"), std::string_view::npos);
}

}  // namespace
}  // namespace moetrace
