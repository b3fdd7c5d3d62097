// What TraceReader refuses, and what it says then.
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "trace/trace_reader_fixture.hpp"

namespace moetrace::trace {
namespace {

TEST_F(TraceReaderTest, FilesThatAreNoTrace) {
  EXPECT_EQ(error_of(""), "not a trace: it is empty");
  EXPECT_EQ(error_of("\n \n"), "not a trace: it is empty");
  for (const char* text : {"nonsense\n", "nonsense", "[1]", "5\n", "[07:12] started\n"}) {
    EXPECT_EQ(error_of(text), "not a trace: its first line is not a JSON object") << text;
  }
  EXPECT_EQ(error_of("[{\"type\":\"meta\"}]\n"), "not a trace: it is a JSON array");
  EXPECT_EQ(error_of("{\n  \"type\": \"meta\"\n}\n"),
            "not a trace: its JSON objects stretch over several lines");
  EXPECT_EQ(error_of(R"({"type":"step","step":0,"rows":1,"layers":1,"time_ns":1,"seq":0,)"
                     R"("dropped_total":0,"event":0})"
                     "\n"),
            "not a trace: its first line is neither a meta line nor a row");
  EXPECT_EQ(error_of(kMeta.substr(0, 40)), "line 1: unfinished: it has no newline");
  const auto bytes = [](auto& text) { return std::string(text, sizeof text - 1); };
  EXPECT_EQ(error_of(bytes("\xFF\xFE{\0\"\0t\0\n\0")), "not a trace: it is UTF-16 text");
  EXPECT_EQ(error_of(bytes("\0{\0\"\0t\0\n")), "not a trace: it is UTF-16 text");
  EXPECT_EQ(error_of(bytes("\x89PNG\r\n\x1A\n\0\0\0\rIHDR")), "not a trace: it is binary data");
  EXPECT_EQ(error_of(bytes("MOETRACE\x01\0\0\0")), "not a trace: it is a ring segment");
  EXPECT_EQ(TraceReader::open(folder_.at("none")).error().message,
            folder_.at("none") + ": No such file or directory");
  std::filesystem::create_directory(folder_.at("folder"));
  EXPECT_EQ(TraceReader::open(folder_.at("folder")).error().message,
            folder_.at("folder") + ": is a folder, not a trace file");
}

TEST_F(TraceReaderTest, MetaThatCannotBe) {
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string meta = kMeta;
    meta.replace(meta.find(from), from.size(), to);
    return error_of(meta);
  };
  EXPECT_EQ(with(R"("top_k":2,)", ""), R"(line 1: the meta line has no "top_k")");
  EXPECT_EQ(with(R"("top_k":2)", R"("top_k":33)"),
            R"(line 1: "top_k" in the meta line must be a whole number from 1 to 32)");
  EXPECT_EQ(with(R"("num_experts":8)", R"("num_experts":null)"),
            R"(line 1: the meta line has no "num_experts")");
  EXPECT_EQ(with("moetrace/1", "moetrace/2"),
            R"(line 1: schema "moetrace/2" is not known here (this reads moetrace/1))");
  EXPECT_EQ(with("[0,1]", "[0,256]"),
            R"(line 1: "layers_logged" in the meta line must be a whole number from 0 to 255)");
  EXPECT_EQ(with(R"("tiny")", "5"),
            R"(line 1: "model_id" in the meta line must be a string or null)");
  EXPECT_EQ(error_of(kMeta, {.num_experts = 60}), "line 1: the trace has 8 experts, not 60");
}

// A last line without a newline is one only if nothing of it can be missing.
TEST_F(TraceReaderTest, UnfinishedLastLine) {
  const auto rows_and_rest = [&](const std::string& text) {
    auto reader = open(text);
    EXPECT_TRUE(reader) << reader.error().message;
    uint64_t rows = 0;
    for (;;) {
      const auto line = reader->next();
      EXPECT_TRUE(line) << line.error().message;
      if (!line || *line == nullptr) break;
      ++rows;
    }
    EXPECT_EQ(*reader->next(), nullptr);
    const std::string& rest = reader->left_out();
    return std::to_string(rows) + (rest.empty() ? "" : rest.substr(folder_.at("t.jsonl").size()));
  };
  const std::string whole = kRoute.substr(0, kRoute.size() - 1);
  EXPECT_EQ(rows_and_rest(kMeta + kRoute), "1");
  EXPECT_EQ(rows_and_rest(kMeta + kRoute + whole), "2");
  EXPECT_EQ(rows_and_rest(kMeta + kRoute + whole + " \r"), "2");
  EXPECT_EQ(rows_and_rest(kMeta + kRoute + "\n  \t"), "1");
  for (size_t cut = 1; cut < whole.size(); ++cut) {
    EXPECT_EQ(rows_and_rest(kMeta + kRoute + whole.substr(0, cut)),
              "1: left out 1 unfinished line: line 3 has " + std::to_string(cut) +
                  (cut == 1 ? " byte" : " bytes") +
                  " and no newline; wait until its writer has ended the line");
  }
  for (const char* rest : {"nonsense", "5", "[1]", "{}}", "{nonsense}", "{\"type\":\"x\"} {"}) {
    EXPECT_TRUE(rows_and_rest(kMeta + rest).starts_with("0: left out 1 unfinished line")) << rest;
  }
  EXPECT_EQ(rows_and_rest(kMeta.substr(0, kMeta.size() - 1)), "0");
  // Whole, but wrong.
  EXPECT_EQ(error_of(kMeta + R"({"type":"route"})"), "line 2: missing key \"req_id\"");
}

TEST_F(TraceReaderTest, LinesThatAreNotJson) {
  for (const char* line : {
           "nonsense",
           "[]",
           "5",
           R"({"type":"later")",
           R"({"type":"later","x":)",
           R"({"type":"later","x":[)",
           R"({"type":"later","x":"no end)",
           R"({"type":"later","x":"no end\)",
           R"({"type":"later"}})",
           R"({"type":"later"} {"type":"later"})",
           R"({"type":"later","x":nul})",
           R"({"type":"later","x":01})",
           R"({"type":"later","x":[1,]})",
           R"({"type":"later","x":{"a" 1}})",
           R"({"type":"later","x":"\q"})",
           R"({"type":"later","x":1 2})",
           R"({"type":"later",})",
           "{\"type\":\"la\xFFter\"}",
           R"({"type":"later","x":[1}])",
           R"({"type":"torn","first_seq":1,"count":2]})",
       }) {
    const std::string error = line_error(line);
    EXPECT_TRUE(error.starts_with("line 2: not JSON: ")) << line << " gave: " << error;
  }
}

// A line torn at any byte, with others after it: an error, whatever is left of the line.
TEST_F(TraceReaderTest, LinesTornAtAnyByte) {
  for (
      const std::string& line : {
          kRoute.substr(0, kRoute.size() - 1),
          std::string(
              R"({"type":"later","a\u00e9":{"b":[1,null,"x\\"]},"c":-1.5e3,"d":"\ud83d\ude00"})"),
          std::string(R"({"type":"torn","x":true,"first_seq":null,"count":4,"type2":{}})"),
          std::string(
              R"({"type":"route","req_id":null,"token_idx":0,"layer":0,"topk_ids":[null,1],"topk_weights":[null,1e-3]})"),
      }) {
    ASSERT_EQ(line_error(line), "");
    for (size_t size = 1; size < line.size(); ++size) {
      const std::string error = line_error(line.substr(0, size));
      EXPECT_TRUE(error.starts_with("line 2: ")) << line.substr(0, size) << " gave: " << error;
    }
  }
}

TEST_F(TraceReaderTest, LinesThatAreNotOfTheSchema) {
  const auto route = [&](const std::string& ids, const std::string& weights,
                         const std::string& layer = "0", const std::string& token = "0") {
    return line_error(R"({"type":"route","req_id":"r","token_idx":)" + token + R"(,"layer":)" +
                      layer + R"(,"topk_ids":)" + ids + R"(,"topk_weights":)" + weights + "}");
  };
  EXPECT_EQ(route("[0,7]", "[1,2]"), "");
  EXPECT_EQ(route("[0,8]", "[1,2]"), "line 2: expert id 8 is out of range (0 to 7)");
  EXPECT_EQ(route("[0,-1]", "[1,2]"),
            R"(line 2: "topk_ids" must be a whole number or null, not -1)");
  EXPECT_EQ(route("[0]", "[1,2]"), R"(line 2: "topk_ids" has 1 entries, top_k is 2)");
  EXPECT_EQ(route("[0,1,2]", "[1,2]"), R"(line 2: "topk_ids" has 3 entries, top_k is 2)");
  EXPECT_EQ(route("[0,1]", "[]"), R"(line 2: "topk_weights" has 0 entries, top_k is 2)");
  EXPECT_EQ(route("[0,1]", "[1,2,3]"), R"(line 2: "topk_weights" has 3 entries, top_k is 2)");
  EXPECT_EQ(
      route("[" +
                std::string(80, '0').replace(
                    0, 80, "0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0") +
                "]",
            "[1,2]"),
      R"(line 2: "topk_ids" has more than 32 entries)");
  EXPECT_EQ(route("5", "[1,2]"), R"(line 2: "topk_ids" must be a list, not 5)");
  for (const char* weight : {"NaN", "\"1\"", "1e39", "01", "1.", ".5", "true", "+1", "0x1", "[]"}) {
    EXPECT_TRUE(route("[0,1]", std::string("[1,") + weight + "]")
                    .starts_with("line 2: \"topk_weights\" must be a list of float32 numbers"))
        << weight;
  }
  EXPECT_EQ(route("[0,1]", "[1,2]", "2"), "line 2: layer 2 is out of range (0 to 1)");
  EXPECT_EQ(route("[0,1]", "[1,2]", "null"), R"(line 2: "layer" must be a whole number, not null)");
  EXPECT_EQ(route("[0,1]", "[1,2]", "0", "1.5"),
            R"(line 2: "token_idx" must be a whole number or null, not 1.5)");
  EXPECT_EQ(route("[0,1]", "[1,2]", "0", "99999999999999999999"),
            R"(line 2: "token_idx" must be a whole number or null, not 99999999999999999999)");
  EXPECT_EQ(line_error(R"({"type":"torn","count":4})"), R"(line 2: missing key "first_seq")");
  EXPECT_EQ(line_error(R"({"type":"torn","count":4,"count":4,"first_seq":1})"),
            R"(line 2: "count" comes twice)");
  EXPECT_EQ(line_error(R"({"type":"torn","first_seq":1,"count":"4"})"),
            R"(line 2: "count" must be a whole number, not "4")");
  EXPECT_EQ(line_error(R"({"first_seq":1,"count":4})"), R"(line 2: missing key "type")");
  const auto end = [&](const std::string& cost) {
    return line_error(R"({"type":"end","attempted":0,"delivered":0,"filtered":0,"dropped":0,)"
                      R"("torn":0,"status":"closed","cost":)" +
                      cost + "}");
  };
  EXPECT_EQ(end(R"({"hook_ns":null,"later":{"x":[1]},"announce_ns":1})"), "");
  EXPECT_EQ(end("null"), R"(line 2: "cost" must be an object, not null)");
  EXPECT_EQ(end("[]"), R"(line 2: "cost" must be an object, not [)");
  EXPECT_EQ(end(R"({"announce_ns":1})"), R"(line 2: missing key "hook_ns" in "cost")");
  EXPECT_EQ(end(R"({"announce_ns":1,"hook_ns":1,"hook_ns":1})"),
            R"(line 2: "hook_ns" comes twice)");
  EXPECT_EQ(end(R"({"announce_ns":1,"hook_ns":1)"),
            "line 2: not JSON: the line ends in the middle");
  EXPECT_EQ(line_error(R"({"type":5})"), R"(line 2: "type" must be a string)");
  EXPECT_EQ(line_error(R"({"type":"loss","dropped":1,"dropped_total":1,"cause":3,"after_seq":1})"),
            R"(line 2: "cause" must be a string, not 3)");
  EXPECT_EQ(error_of(kMeta + kMeta), "line 2: a second trace begins here");
  EXPECT_EQ(
      line_error(R"({"type":"later","x":)" + std::string(100, '[') + std::string(100, ']') + "}"),
      "line 2: nested too deeply");
}

TEST_F(TraceReaderTest, StaysAtTheFirstError) {
  auto reader = open(kMeta + "nonsense\n" + kRoute);
  ASSERT_TRUE(reader);
  const auto first = reader->next();
  ASSERT_FALSE(first);
  EXPECT_EQ(first.error().code, ErrorCode::kBadJson);
  const auto second = reader->next();
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().message, first.error().message);
}

}  // namespace
}  // namespace moetrace::trace
