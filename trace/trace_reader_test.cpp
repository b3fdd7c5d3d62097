#include "trace/trace_reader.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <bit>
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "trace/test_files.hpp"

namespace moetrace::trace {
namespace {

const std::string kMeta =
    R"({"type":"meta","model_id":"tiny","vllm_version":null,"torch_version":"2.9","device":"cpu",)"
    R"("seed":1234,"layers_logged":[0,1],"top_k":2,"num_experts":8,"schema":"moetrace/1",)"
    R"("trace_id":"t","engine":"e","engine_version":"1","num_layers":2,)"
    R"("router":{"score":"softmax","renormalized":false,"scaling":1,"biased":true,"groups":8,"topk_groups":4},)"
    R"("notes":["one","two"],"rank":1,"world_size":2,)"
    R"("ranks":{"tp":1,"dp":0,"pp":0,"ep":0},"host":"h","created_at":1764302556.01})"
    "\n";
const std::string kPlainMeta =
    R"({"type": "meta", "model_id": "plain", "layers_logged": [0], "top_k": 2, "created_at": 1.5})"
    "\n";
const std::string kRoute =
    R"({"type":"route","req_id":"r0","token_idx":7,"layer":1,"topk_ids":[3,0],)"
    R"("topk_weights":[0.31,0.12],"request":4,"step":5,"seq":6})"
    "\n";

class TraceReaderTest : public testing::Test {
 protected:
  TestFolder folder_;

  Result<TraceReader> open(const std::string& bytes, const ReadOptions& options = {}) {
    return TraceReader::open(folder_.write("t.jsonl", bytes), options);
  }

  // Reads to the first error; what is wrong, without the folder's name. Empty if nothing is.
  std::string error_of(const std::string& bytes, const ReadOptions& options = {}) {
    auto reader = open(bytes, options);
    std::string message;
    if (!reader) {
      message = reader.error().message;
    } else {
      for (;;) {
        const auto line = reader->next();
        if (!line) message = line.error().message;
        if (!line || *line == nullptr) break;
      }
    }
    const std::string path = folder_.at("t.jsonl") + ": ";
    return message.starts_with(path) ? message.substr(path.size()) : message;
  }

  std::string line_error(const std::string& line) { return error_of(kMeta + line + "\n"); }
};

template <class T>
const T& as(const Result<const Line*>& line) {
  return std::get<T>((*line)->content);
}

TEST_F(TraceReaderTest, ReadsEveryKeyOfMeta) {
  const auto reader = open(kMeta);
  ASSERT_TRUE(reader) << reader.error().message;
  const Meta& meta = reader->meta();
  EXPECT_EQ(meta.model_id, "tiny");
  EXPECT_EQ(meta.vllm_version, std::nullopt);
  EXPECT_EQ(meta.torch_version, "2.9");
  EXPECT_EQ(meta.seed, 1234);
  EXPECT_EQ(meta.layers_logged, (std::vector<uint16_t>{0, 1}));
  EXPECT_EQ(meta.top_k, 2U);
  EXPECT_EQ(meta.num_experts, 8U);
  EXPECT_EQ(meta.num_layers, 2U);
  EXPECT_EQ(meta.router.score, "softmax");
  EXPECT_EQ(meta.router.renormalized, false);
  EXPECT_EQ(meta.router.scaling, 1.0);
  EXPECT_EQ(meta.router.biased, true);
  EXPECT_EQ(meta.router.groups, 8U);
  EXPECT_EQ(meta.router.topk_groups, 4U);
  EXPECT_EQ(meta.notes, (std::vector<std::string>{"one", "two"}));
  EXPECT_EQ(meta.rank, 1U);
  EXPECT_EQ(meta.world_size, 2U);
  EXPECT_EQ(meta.ranks.tp, 1U);
  EXPECT_EQ(meta.created_at, 1764302556.01);
  EXPECT_FALSE(meta.plain());
  EXPECT_EQ(meta.text + "\n", kMeta);
}

TEST_F(TraceReaderTest, ReadsEveryTypeOfLine) {
  auto reader = open(
      kMeta +
      R"({"type":"base","seq":9,"event":8,"step":null,"open":3,"dropped_total":2,"attempted_total":40})"
      "\n"
      R"({"type":"request","req_id":"r0","prompt_tokens":57,"cached_tokens":0,"request":4,"event":0})"
      "\n"
      R"({"type":"step","step":5,"rows":57,"layers":2,"time_ns":9000000000000,"seq":6,"dropped_total":1,)"
      R"("event":1,"attempted_total":10,"delivered_total":7,"filtered_total":2,"torn_total":0})"
      "\n" +
      kRoute +
      R"({"type":"loss","dropped":128,"dropped_total":129,"cause":"ring_full","after_seq":null})"
      "\n"
      R"({"type":"torn","first_seq":3,"count":4})"
      "\n"
      R"({"type":"control","layers":[1],"sample_every":10,"from_step":6})"
      "\n"
      R"({"type":"later","what":[{"ever":"it \"is\"","x":[1.5e3,true,null]}]})"
      "\n"
      R"({"type":"request_end","req_id":null,"generated_tokens":128,"status":"length","request":4,"event":2})"
      "\n"
      R"({"type":"end","attempted":5,"delivered":1,"filtered":2,"dropped":3,"torn":4,"status":"closed","cost":{"announce_ns":1,"hook_ns":null}})"
      "\n");
  ASSERT_TRUE(reader) << reader.error().message;

  auto line = reader->next();
  ASSERT_TRUE(line) << line.error().message;
  EXPECT_EQ((*line)->number, 2U);
  EXPECT_EQ(as<Base>(line).seq, 9U);
  EXPECT_EQ(as<Base>(line).step, std::nullopt);
  EXPECT_EQ(as<Base>(line).open, 3U);
  EXPECT_EQ(as<Base>(line).totals.dropped, 2U);
  EXPECT_EQ(as<Base>(line).totals.attempted, 40U);
  EXPECT_EQ(as<Base>(line).totals.torn, std::nullopt);
  line = reader->next();
  EXPECT_EQ(as<Request>(line).req_id, "r0");
  EXPECT_EQ(as<Request>(line).prompt_tokens, 57U);
  line = reader->next();
  EXPECT_EQ(as<Step>(line).time_ns, 9'000'000'000'000);
  EXPECT_EQ(as<Step>(line).rows, 57U);
  EXPECT_EQ(as<Step>(line).totals.dropped, 1U);
  EXPECT_EQ(as<Step>(line).totals.delivered, 7U);
  EXPECT_EQ(as<Step>(line).totals.filtered, 2U);
  line = reader->next();
  ASSERT_TRUE(line) << line.error().message;
  EXPECT_EQ((*line)->number, 5U);
  EXPECT_EQ(std::string((*line)->text) + "\n", kRoute);
  const auto& route = as<Route>(line);
  EXPECT_EQ(route.req_id, "r0");
  EXPECT_EQ(route.token_idx, 7U);
  EXPECT_EQ(route.layer, 1U);
  EXPECT_EQ(std::vector(route.expert_ids.begin(), route.expert_ids.end()),
            (std::vector<uint16_t>{3, 0}));
  EXPECT_EQ(std::vector(route.weights.begin(), route.weights.end()),
            (std::vector<float>{0.31F, 0.12F}));
  EXPECT_EQ(route.request, 4U);
  EXPECT_EQ(route.step, 5U);
  EXPECT_EQ(route.seq, 6U);
  line = reader->next();
  EXPECT_EQ(as<Loss>(line).dropped, 128U);
  EXPECT_EQ(as<Loss>(line).cause, "ring_full");
  EXPECT_EQ(as<Loss>(line).after_seq, std::nullopt);
  line = reader->next();
  EXPECT_EQ(as<Torn>(line).first_seq, 3U);
  EXPECT_EQ(as<Torn>(line).count, 4U);
  line = reader->next();
  EXPECT_EQ(as<Control>(line).layers.size(), 1U);
  EXPECT_EQ(as<Control>(line).sample_every, 10U);
  line = reader->next();
  ASSERT_TRUE(line) << line.error().message;
  EXPECT_EQ(as<Unknown>(line).type, "later");
  line = reader->next();
  EXPECT_EQ(as<RequestEnd>(line).req_id, std::nullopt);
  EXPECT_EQ(as<RequestEnd>(line).status, "length");
  line = reader->next();
  EXPECT_EQ(as<End>(line).torn, 4U);
  EXPECT_EQ(as<End>(line).status, "closed");
  line = reader->next();
  ASSERT_TRUE(line);
  EXPECT_EQ(*line, nullptr);
}

TEST_F(TraceReaderTest, ReadsPlainLogs) {
  auto reader = open(
      kPlainMeta +
          R"({"type": "route", "req_id": "r\u0031", "token_idx": 0, "layer": 0, "topk_ids": [43, 5], "topk_weights": [NaN, -Infinity]})"
          "\r\n",
      {.num_experts = 60});
  ASSERT_TRUE(reader) << reader.error().message;
  EXPECT_TRUE(reader->meta().plain());
  EXPECT_EQ(reader->num_experts(), 60U);
  const auto line = reader->next();
  ASSERT_TRUE(line) << line.error().message;
  const auto& route = as<Route>(line);
  EXPECT_EQ(route.req_id, "r1");
  EXPECT_TRUE(std::isnan(route.weights[0]));
  EXPECT_TRUE(std::isnan(route.weights[1]));
  EXPECT_EQ(route.seq, std::nullopt);
}

TEST_F(TraceReaderTest, NullsAreUnknown) {
  auto reader = open(
      kMeta +
      R"({"type":"route","req_id":null,"token_idx":null,"layer":0,"topk_ids":[1,null],"topk_weights":[null,0.5],"request":null,"step":0,"seq":0})"
      "\n");
  ASSERT_TRUE(reader);
  const auto line = reader->next();
  ASSERT_TRUE(line) << line.error().message;
  const auto& route = as<Route>(line);
  EXPECT_EQ(route.req_id, std::nullopt);
  EXPECT_EQ(route.token_idx, std::nullopt);
  EXPECT_EQ(route.request, std::nullopt);
  EXPECT_EQ(route.expert_ids[1], kNoExpert);
  EXPECT_TRUE(std::isnan(route.weights[0]));
  EXPECT_EQ(route.weights[1], 0.5F);
}

// 1.00000017881393432617187499 lies just below the middle of two float32: the nearest double is the
// middle itself, so a detour through double rounds up to 1.0000002.
TEST_F(TraceReaderTest, WeightsAreTheNearestFloat32) {
  const auto weight = [&](const std::string& text) {
    auto reader = open(kMeta + R"({"type":"route","req_id":"r","token_idx":0,"layer":0,)" +
                       R"("topk_ids":[0,1],"topk_weights":[)" + text + ",1]}\n");
    const auto line = reader->next();
    EXPECT_TRUE(line) << line.error().message;
    return as<Route>(line).weights[0];
  };
  EXPECT_EQ(weight("1.00000017881393432617187499"), std::nextafter(1.0F, 2.0F));
  EXPECT_NE(static_cast<float>(1.00000017881393432617187499), std::nextafter(1.0F, 2.0F));
  EXPECT_EQ(weight("0.0966397076845169"), 0.0966397076845169F);
  EXPECT_EQ(std::bit_cast<uint32_t>(weight("1e-45")), 1U);
  EXPECT_EQ(std::bit_cast<uint32_t>(weight("-0.0")), 0x80000000U);
  EXPECT_EQ(weight("1e-60"), 0.0F);
  EXPECT_EQ(weight("3.4028235e38"), std::numeric_limits<float>::max());
}

TEST_F(TraceReaderTest, KeysMayComeInAnyOrderAndUnknownOnesAreIgnored) {
  auto reader =
      open(kMeta + R"({"x":{"y":[1,"]"]},"topk_weights":[1,2],"layer":0,"topk_ids":[0,1],)"
                   R"("req_id":"r","type":"route","token_idx":3})"
                   "\n");
  ASSERT_TRUE(reader);
  const auto line = reader->next();
  ASSERT_TRUE(line) << line.error().message;
  EXPECT_EQ(as<Route>(line).token_idx, 3U);
  EXPECT_EQ(as<Route>(line).weights[1], 2.0F);
}

// A space more and a line takes the general way through the parser instead of the short one.
TEST_F(TraceReaderTest, BothWaysGiveTheSame) {
  std::string spaced = kRoute;
  spaced.replace(spaced.find("{"), 1, "{  ");
  auto reader = open(kMeta + kRoute + spaced + kRoute);
  ASSERT_TRUE(reader);
  const auto read_route = [&] {
    const auto line = reader->next();
    EXPECT_TRUE(line) << line.error().message;
    const auto& route = as<Route>(line);
    return std::tuple(std::string(*route.req_id), route.token_idx, route.layer, route.request,
                      route.step, route.seq,
                      std::vector(route.expert_ids.begin(), route.expert_ids.end()),
                      std::vector(route.weights.begin(), route.weights.end()));
  };
  const auto first = read_route();
  EXPECT_EQ(first, read_route());
  EXPECT_EQ(first, read_route());
}

TEST_F(TraceReaderTest, LinesLongerThanTheBufferAreRead) {
  const std::string filler(3 << 20, 'x');
  auto reader = open(kMeta + R"({"type":"note","text":")" + filler + "\"}\n" + kRoute);
  ASSERT_TRUE(reader);
  auto line = reader->next();
  ASSERT_TRUE(line) << line.error().message;
  EXPECT_GT((*line)->text.size(), filler.size());
  line = reader->next();
  ASSERT_TRUE(line) << line.error().message;
  EXPECT_EQ(as<Route>(line).seq, 6U);
}

TEST_F(TraceReaderTest, ManyBlocksGiveEveryLineOnce) {
  std::string bytes = kMeta;
  constexpr uint64_t kLines = 20'000;  // some 2.5 MB
  for (uint64_t seq = 0; seq < kLines; ++seq) {
    bytes += R"({"type":"route","req_id":"request-)" + std::to_string(seq * seq) +
             R"(","token_idx":1,"layer":0,"topk_ids":[1,2],"topk_weights":[0.5,0.25],"seq":)" +
             std::to_string(seq) + "}\n";
  }
  auto reader = open(bytes);
  ASSERT_TRUE(reader);
  for (uint64_t seq = 0; seq < kLines; ++seq) {
    const auto line = reader->next();
    ASSERT_TRUE(line) << line.error().message;
    ASSERT_EQ(as<Route>(line).seq, seq);
    ASSERT_EQ(as<Route>(line).req_id, "request-" + std::to_string(seq * seq));
  }
  EXPECT_EQ(*reader->next(), nullptr);
}

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

TEST_F(TraceReaderTest, BlankLinesAndByteOrderMarksSayNothing) {
  auto reader = open("\xEF\xBB\xBF\n \n" + kMeta + "\n\r\n" + kRoute);
  ASSERT_TRUE(reader) << reader.error().message;
  const auto line = reader->next();
  ASSERT_TRUE(line) << line.error().message;
  EXPECT_EQ((*line)->number, 6U);
  EXPECT_EQ(*reader->next(), nullptr);
  EXPECT_EQ(error_of("\xEF\xBB\xBF" + kMeta + kRoute), "");
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

// A line torn at any byte, with others behind it: an error, whatever is left of the line.
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
            R"(line 2: "count" is there twice)");
  EXPECT_EQ(line_error(R"({"type":"torn","first_seq":1,"count":"4"})"),
            R"(line 2: "count" must be a whole number, not "4")");
  EXPECT_EQ(line_error(R"({"first_seq":1,"count":4})"), R"(line 2: missing key "type")");
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

TEST_F(TraceReaderTest, TopKUpTo32) {
  std::string ids;
  for (int id = 0; id < 32; ++id) ids += (id == 0 ? "" : ",") + std::to_string(id * 8);
  auto reader = open(
      R"({"type":"meta","layers_logged":[255],"top_k":32,"num_experts":256,"schema":"moetrace/1","trace_id":"t"})"
      "\n"
      R"({"type":"route","req_id":"r","token_idx":0,"layer":255,"topk_ids":[)" +
      ids + R"(],"topk_weights":[)" + ids + "]}\n");
  ASSERT_TRUE(reader) << reader.error().message;
  const auto line = reader->next();
  ASSERT_TRUE(line) << line.error().message;
  EXPECT_EQ(as<Route>(line).expert_ids[31], 248U);
  EXPECT_EQ(as<Route>(line).weights[31], 248.0F);
}

TEST(RealVllmLog, IsReadToItsEnd) {
  if (::access(MOETRACE_REAL_VLLM_LOG, R_OK) != 0) GTEST_SKIP() << "not on this machine";
  auto reader = TraceReader::open(MOETRACE_REAL_VLLM_LOG, {.num_experts = 60});
  ASSERT_TRUE(reader) << reader.error().message;
  uint64_t routes = 0;
  for (;;) {
    const auto line = reader->next();
    ASSERT_TRUE(line) << line.error().message;
    if (*line == nullptr) break;
    routes += std::holds_alternative<Route>((*line)->content) ? 1 : 0;
  }
  EXPECT_EQ(routes, 12'805U);
}

}  // namespace
}  // namespace moetrace::trace
