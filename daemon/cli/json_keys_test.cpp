#include "daemon/cli/json_keys.hpp"

#include <gtest/gtest.h>

namespace moetrace::cli {
namespace {

TEST(JsonKeys, RemovesAKeyWhereverItStands) {
  const struct {
    const char* line;
    const char* without;
  } cases[] = {
      {R"({"type":"x","at":5})", R"({"type":"x"})"},
      {R"({"at":5,"type":"x"})", R"({"type":"x"})"},
      {R"({"type":"x","at":{"at":[1,"}"]},"b":2})", R"({"type":"x","b":2})"},
      {R"({ "at" : 5 , "type": "x" })", R"({ "type": "x" })"},
      {R"({ "type": "x" , "at": 5 })", R"({ "type": "x"  })"},
      {R"({"at":5})", R"({})"},
      {R"({"b":{"at":5},"c":"\"at\":5"})", R"({"b":{"at":5},"c":"\"at\":5"})"},
      {R"({"b":"at","c":[{"at":5}]})", R"({"b":"at","c":[{"at":5}]})"},
  };
  for (const auto& [line, without] : cases) EXPECT_EQ(without_key(line, "at"), without);
}

TEST(JsonKeys, RemovesWhatItAdds) {
  for (const char* line : {R"({"type":"x"})", R"({ "type": "x" } )", "{\"a\":{\"b\":\"}\"}}\r"}) {
    EXPECT_NE(with_member(line, "\"at\":5"), line);
    EXPECT_EQ(without_key(with_member(line, "\"at\":5"), "at"), line);
  }
}

TEST(JsonKeys, ListsThem) {
  using Keys = std::vector<std::string_view>;
  EXPECT_EQ(keys_of(R"({"a":1,"b":{"c":[2,{"d":3}]},"e":null})"), (Keys{"a", "b", "e"}));
  EXPECT_EQ(keys_of("{}"), Keys{});
}

}  // namespace
}  // namespace moetrace::cli
