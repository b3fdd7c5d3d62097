#include "daemon/cli/short_line.hpp"

#include <gtest/gtest.h>

namespace moetrace::cli {
namespace {

TEST(ShortLineTest, SaysWhatIsUnknown) {
  EXPECT_EQ(
      short_line(
          R"({"type":"route","req_id":null,"token_idx":3,"layer":1,"topk_ids":[4,null],"topk_weights":[0.5,null]})"),
      "? token 3 layer 1:  4 0.5000  ? ?");
  EXPECT_EQ(short_line("not json"), "not json");
  EXPECT_EQ(short_line(R"({"type":"route"})"), R"({"type":"route"})");
}

}  // namespace
}  // namespace moetrace::cli
