#include "trace/trace_reader.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "trace/trace_reader_fixture.hpp"

namespace moetrace::trace {
namespace {

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
      R"({"type":"control","layers":[1],"sample_every":10,"from_step":6,"enabled":false,"event":9})"
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
  EXPECT_EQ(as<Control>(line).enabled, false);
  EXPECT_EQ(as<Control>(line).event, 9U);
  line = reader->next();
  ASSERT_TRUE(line) << line.error().message;
  EXPECT_EQ(as<Unknown>(line).type, "later");
  line = reader->next();
  EXPECT_EQ(as<RequestEnd>(line).req_id, std::nullopt);
  EXPECT_EQ(as<RequestEnd>(line).status, "length");
  line = reader->next();
  EXPECT_EQ(as<End>(line).torn, 4U);
  EXPECT_EQ(as<End>(line).status, "closed");
  EXPECT_EQ(as<End>(line).cost->announce_ns, 1U);
  EXPECT_EQ(as<End>(line).cost->hook_ns, std::nullopt);
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
  spaced.replace(spaced.find('{'), 1, "{  ");
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

TEST_F(TraceReaderTest, BlankLinesAndByteOrderMarksSayNothing) {
  auto reader = open("\xEF\xBB\xBF\n \n" + kMeta + "\n\r\n" + kRoute);
  ASSERT_TRUE(reader) << reader.error().message;
  const auto line = reader->next();
  ASSERT_TRUE(line) << line.error().message;
  EXPECT_EQ((*line)->number, 6U);
  EXPECT_EQ(*reader->next(), nullptr);
  EXPECT_EQ(error_of("\xEF\xBB\xBF" + kMeta + kRoute), "");
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

TEST(VllmLog, IsReadToItsEnd) {
  auto reader = TraceReader::open(MOETRACE_VLLM_LOG, {.num_experts = 60});
  ASSERT_TRUE(reader) << reader.error().message;
  uint64_t routes = 0;
  for (;;) {
    const auto line = reader->next();
    ASSERT_TRUE(line) << line.error().message;
    if (*line == nullptr) break;
    routes += std::holds_alternative<Route>((*line)->content) ? 1 : 0;
  }
  EXPECT_EQ(routes, 400U);
}

}  // namespace
}  // namespace moetrace::trace
