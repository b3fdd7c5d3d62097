// The configuration file's reader, near names, mistyped variables, and the types of values.
#include <gtest/gtest.h>

#include <cstdlib>

#include "daemon/config/config_file.hpp"
#include "daemon/config/known_variables.hpp"
#include "daemon/config/near_name.hpp"
#include "daemon/config/value_types.hpp"

namespace moetrace {
namespace {

std::string config_error(const std::string& text) {
  const auto parsed = parse_config("f.json", text);
  return parsed ? "none" : parsed.error().message;
}

TEST(NearName, FindsSlips) {
  const std::vector<std::string> names = {"output", "output_dir", "once", "quiet"};
  EXPECT_EQ(near_name("outptu", names), "output");
  EXPECT_EQ(near_name("output-dir", names), "output_dir");
  EXPECT_EQ(near_name("outputdir", names), "output_dir");
  EXPECT_EQ(near_name("one", names), "once");
  EXPECT_EQ(near_name("quite", names), "quiet");
  EXPECT_EQ(near_name("rows", names), "");
  EXPECT_EQ(near_name("", names), "");
  EXPECT_EQ(near_name(std::string(100'000, 'x'), names), "");
}

TEST(ConfigFile, KeepsTheOrderAndTakesComments) {
  const auto parsed = parse_config("f.json", "// a\n{\"b\": 1, /* c */ \"a\": [2]} // d");
  ASSERT_TRUE(parsed) << parsed.error().message;
  const ConfigEntries expected = {{"b", 1}, {"a", ConfigJson::array({2})}};
  EXPECT_EQ(*parsed, expected);
  EXPECT_TRUE(parse_config("f.json", "{}")->empty());
}

TEST(ConfigFile, SaysWhereItIsNoJson) {
  const auto expect_place = [](const std::string& text, const std::string& place) {
    const std::string said = config_error(text);
    EXPECT_EQ(said.substr(0, 8 + place.size() + 2), "f.json: " + place + ": ") << said;
    EXPECT_EQ(said.find('\n'), std::string::npos) << said;
  };
  expect_place("", "line 1, column 1");
  expect_place("{\"a\": tru}", "line 1, column 10");
  expect_place("{\n\"a\": 1,\n}", "line 3, column 1");
  expect_place("{\n  \"a\": 1\n  \"b\": 2\n}", "line 3, column 5");
  expect_place("{\"a\": 1e999}", "line 1, column 11");
  expect_place("{\"a\": \"\xff\"}", "line 1, column 8");
  expect_place("{\"a\": \"x\ny\"}", "line 1, column 9");
  expect_place("{} {}", "line 1, column 4");
  expect_place("{\"a\": 1", "line 1, column 7");
  expect_place(std::string(100'000, '['), "line 1, column 100000");
}

TEST(ConfigFile, RefusesWhatIsNoObjectOrHasAKeyTwice) {
  EXPECT_EQ(config_error("[1]"),
            "f.json: expected a JSON object such as {\"output_dir\": \"/var/lib/moetrace\"}");
  EXPECT_EQ(config_error("{\"a\": 1, \"b\": 2, \"a\": 1}"),
            "f.json: duplicate key \"a\"; keep one of them");
  // Only the settings' own names matter.
  EXPECT_EQ(config_error("{\"a\": {\"a\": 1}, \"b\": {\"a\": 1}}"), "none");
}

TEST(KnownVariables, FindsSlips) {
  for (const auto& [name, near] : std::vector<std::pair<std::string, std::string>>{
           {"MOETRACE_OUTPUTDIR", "MOETRACE_OUTPUT_DIR"},
           {"MOETRACE_LAYER", "MOETRACE_LAYERS"},
           {"MOETRACE_LAYERS", ""},
           {"MOETRACE_MY_OWN", ""},
           {"MOETRACE", ""}}) {
    ::setenv(name.c_str(), "x", 1);
    const auto lines = mistyped_variables({"MOETRACE_OUTPUT_DIR"});
    ::unsetenv(name.c_str());
    std::vector<std::string> expected;
    if (!near.empty())
      expected = {name + ": unknown environment variable, ignored; did you mean " + near + "?"};
    EXPECT_EQ(lines, expected);
  }
}

TEST(ValueTypes, TakeVariables) {
  bool on = false;
  for (const char* text : {"1", "yes", "true", "on"}) {
    on = false;
    EXPECT_EQ(take_value(variable_json(text, on), on), "");
    EXPECT_TRUE(on);
  }
  for (const char* text : {"0", "no", "false", "off"}) {
    on = true;
    EXPECT_EQ(take_value(variable_json(text, on), on), "");
    EXPECT_FALSE(on);
  }
  EXPECT_EQ(take_value(variable_json("On", on), on), "true or false");
  std::vector<std::string> list = {"old"};
  EXPECT_EQ(take_value(variable_json(" a  b\tc ", list), list), "");
  EXPECT_EQ(list, (std::vector<std::string>{"a", "b", "c"}));
}

TEST(ValueTypes, RefuseOtherTypes) {
  std::string text;
  EXPECT_EQ(take_value(ConfigJson(1), text), "a text");
  EXPECT_EQ(take_value(ConfigJson(std::string("a\0b", 3)), text), "a text without a zero byte");
  bool on = false;
  EXPECT_EQ(take_value(ConfigJson("true"), on), "true or false");
  std::vector<std::string> list;
  EXPECT_EQ(take_value(ConfigJson("a"), list), "a list of texts");
  EXPECT_EQ(take_value(ConfigJson::array({1}), list), "a list of texts");
  moetrace_layer_mask mask{};
  for (const ConfigJson& wrong : {ConfigJson(1), ConfigJson("256"), ConfigJson("3-1")})
    EXPECT_EQ(take_value(wrong, mask), "layers from 0 to 255, such as \"0,5-7\", or \"all\"");
  EXPECT_EQ(take_value(ConfigJson("0,5-7"), mask), "");
  EXPECT_EQ(value_json(mask), "0,5-7");
  EXPECT_EQ(take_value(ConfigJson("all"), mask), "");
  EXPECT_EQ(value_json(mask), "all");
}

TEST(Quantities, SizesArePowersOf1024) {
  ByteSize size;
  for (const auto& [text, bytes, again] : {std::tuple("1", 1ull, "1"),
                                           {"1000", 1000, "1000"},
                                           {"64K", 65536, "64K"},
                                           {"500M", 524288000, "500M"},
                                           {"10G", 10ull << 30, "10G"},
                                           {"1.5T", 3ull << 39, "1536G"},
                                           {"1.5TiB", 3ull << 39, "1536G"},
                                           {"2048KiB", 2 << 20, "2M"},
                                           {"0.5K", 512, "512"}}) {
    EXPECT_EQ(take_value(ConfigJson(text), size), "") << text;
    EXPECT_EQ(size.bytes, bytes) << text;
    EXPECT_EQ(value_json(size), again) << text;
  }
  EXPECT_EQ(take_value(ConfigJson("none"), size), "");
  EXPECT_EQ(size.bytes, 0u);
  EXPECT_EQ(value_json(size), "none");
  for (const char* wrong : {"", "0", "-1", "10GB", "10 G", "10g", "G", "iB", "1e3", "0x10", "nan",
                            "inf", "10GiBs", "99999T", "+1", "1..5"}) {
    EXPECT_EQ(take_value(ConfigJson(wrong), size),
              "a size such as 500M, 10G or 1.5T (powers of 1024; also KiB, MiB, GiB, TiB), or none")
        << wrong;
  }
  EXPECT_NE(take_value(ConfigJson(10), size), "");
}

TEST(Quantities, TimesAndCounts) {
  TimeSpan time;
  for (const auto& [text, seconds, again] : {std::tuple("30s", 30ull, "30s"),
                                             {"90s", 90, "90s"},
                                             {"15m", 900, "15m"},
                                             {"1.5h", 5400, "90m"},
                                             {"2h", 7200, "2h"},
                                             {"48h", 172800, "2d"},
                                             {"7d", 604800, "7d"}}) {
    EXPECT_EQ(take_value(ConfigJson(text), time), "") << text;
    EXPECT_EQ(time.seconds, seconds) << text;
    EXPECT_EQ(value_json(time), again) << text;
  }
  for (const char* wrong : {"", "30", "0s", "0.5s", "1w", "1h30m", "-1h"}) {
    EXPECT_EQ(take_value(ConfigJson(wrong), time),
              "a time such as 30s, 15m, 2h or 7d, at least a second, or none")
        << wrong;
  }
  KeptCount kept;
  EXPECT_EQ(take_value(variable_json("5", kept), kept), "");
  EXPECT_EQ(kept.count, 5u);
  EXPECT_EQ(value_json(kept), 5);
  for (const char* wrong : {"0", "-1", "2.5", "5 ", "none", ""})
    EXPECT_EQ(take_value(variable_json(wrong, kept), kept), "a number from 1 on, or all") << wrong;
  EXPECT_EQ(take_value(ConfigJson("all"), kept), "");
  EXPECT_EQ(kept.count, 0u);
  EXPECT_EQ(value_json(kept), "all");
}

}  // namespace
}  // namespace moetrace
