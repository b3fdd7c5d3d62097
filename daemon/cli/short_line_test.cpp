#include "daemon/cli/short_line.hpp"

#include <gtest/gtest.h>

namespace moetrace::cli {
namespace {

TEST(ShortLineTest, SaysWhatIsUnknown) {
  EXPECT_EQ(
      short_line(
          R"({"type":"route","req_id":null,"token_idx":3,"layer":1,"topk_ids":[4,null],"topk_weights":[0.5,null]})"),
      "? token 3 layer 1:  4 0.5000  ? ?");
  EXPECT_EQ(short_line(R"({"type":"step","step":1,"rows":1,"layers":24})"),
            "step 1: 1 row, 24 layers");
  EXPECT_EQ(short_line(R"({"type":"request","req_id":"r","prompt_tokens":null})"),
            "request r begins: ? prompt tokens");
  EXPECT_EQ(short_line("not json"), "not json");
  EXPECT_EQ(short_line(R"({"type":"route"})"), R"({"type":"route"})");
}

}  // namespace
}  // namespace moetrace::cli
