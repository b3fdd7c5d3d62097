// The golden lines (testdata/golden): every field of each, as written out here.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "trace/file_parser.hpp"
#include "trace/meta_parser.hpp"
#include "trace/test_files.hpp"
#include "trace/verify_files.hpp"

namespace moetrace::trace {
namespace {

std::vector<std::string> golden(const std::string& name) {
  const std::string text = read_bytes(MOETRACE_GOLDEN_DIR "/" + name);
  std::vector<std::string> lines;
  for (std::size_t start = 0; start < text.size();) {
    const std::size_t end = text.find('\n', start);
    lines.push_back(text.substr(start, end - start));
    start = end + 1;
  }
  return lines;
}

// What the reader makes of the lines of a file, after meta.jsonl.
class Golden : public testing::Test {
 protected:
  void read(const std::string& name, std::size_t lines) {
    Content content;
    text_ = golden(name);
    ASSERT_EQ(text_.size(), lines) << name;
    const std::string meta = golden("meta.jsonl").at(0);
    ASSERT_EQ(parser_.take(meta, 1, content), FileParser::Taken::kNothing)
        << parser_.error().message;
  }

  template <class T>
  T line(std::size_t index) {
    EXPECT_EQ(parser_.take(text_.at(index), index + 2, content_), FileParser::Taken::kContent)
        << parser_.error().message;
    return std::get<T>(content_);
  }

  FileParser parser_{std::nullopt};
  std::vector<std::string> text_;
  Content content_;
};

Meta meta_of(const std::string& file) {
  const auto meta = parse_meta(golden(file).at(0));
  EXPECT_TRUE(meta) << meta.error().message;
  return *meta;
}

void expect_totals(const Totals& totals, uint64_t attempted) {
  EXPECT_EQ(totals.attempted, attempted);
  EXPECT_EQ(totals.delivered, 800U);
  EXPECT_EQ(totals.filtered, 99U);
  EXPECT_EQ(totals.dropped, 56U);
  EXPECT_EQ(totals.torn, 15U);
  EXPECT_EQ(totals.event_lost, 6U);
}

// Within a step, after 1,000 announced rows.
void expect_under_way(const Base& base) {
  EXPECT_EQ(base.seq, 900U);
  EXPECT_EQ(base.event, 41U);
  EXPECT_EQ(base.step, 17U);
  EXPECT_EQ(base.open, 30U);
  expect_totals(base.totals, 1000);
}

void expect_end(const End& end, uint64_t attempted, uint64_t delivered, const char* status) {
  EXPECT_EQ(end.attempted, attempted);
  EXPECT_EQ(end.delivered, delivered);
  EXPECT_EQ(end.filtered, 99U);
  EXPECT_EQ(end.dropped, 56U);
  EXPECT_EQ(end.torn, 15U);
  EXPECT_EQ(end.status, status);
}

TEST_F(Golden, Meta) {
  const Meta meta = meta_of("meta.jsonl");
  EXPECT_EQ(meta.model_id, "test/model");
  EXPECT_EQ(meta.vllm_version, "0.11.0");
  EXPECT_EQ(meta.torch_version, "2.9.0");
  EXPECT_EQ(meta.device, "cuda:0");
  EXPECT_EQ(meta.seed, -7);
  EXPECT_EQ(meta.layers_logged, (std::vector<uint16_t>{0, 3, 255}));
  EXPECT_EQ(meta.top_k, 4U);
  EXPECT_EQ(meta.num_experts, 60U);
  EXPECT_EQ(meta.schema, "moetrace/1");
  EXPECT_EQ(meta.trace_id, "01234567-89ab-4def-8123-456789abcdef");
  EXPECT_EQ(meta.engine, "vllm");
  EXPECT_EQ(meta.engine_version, "0.11.0+moetrace");
  EXPECT_EQ(meta.num_layers, 256U);
  EXPECT_EQ(meta.router.score, "sigmoid");
  EXPECT_EQ(meta.router.renormalized, true);
  EXPECT_EQ(meta.router.scaling, 2.5);
  EXPECT_EQ(meta.router.biased, true);
  EXPECT_EQ(meta.router.groups, 8U);
  EXPECT_EQ(meta.router.topk_groups, 4U);
  EXPECT_EQ(meta.rank, 3U);
  EXPECT_EQ(meta.world_size, 8U);
  EXPECT_EQ(meta.ranks.tp, 1U);
  EXPECT_EQ(meta.ranks.dp, 0U);
  EXPECT_EQ(meta.ranks.pp, 1U);
  EXPECT_EQ(meta.ranks.ep, 3U);
  EXPECT_EQ(meta.host, "gpu-17");
  EXPECT_EQ(meta.created_at, 1764302556.2499998);
  EXPECT_EQ(meta.sample_every, 10U);
  EXPECT_EQ(meta.notes, (std::vector<std::string>{"first note", "second \"note\""}));
  EXPECT_EQ(meta.text, golden("meta.jsonl").at(0));
}

TEST_F(Golden, MetaOfARouterWithoutBias) {
  const Meta meta = meta_of("meta-router-without-bias.jsonl");
  EXPECT_EQ(meta.vllm_version, std::nullopt);
  EXPECT_EQ(meta.seed, 1234);
  EXPECT_EQ(meta.layers_logged, (std::vector<uint16_t>{0, 1}));
  EXPECT_EQ(meta.router.score, "softmax");
  EXPECT_EQ(meta.router.renormalized, false);
  EXPECT_EQ(meta.router.scaling, 1.0);
  EXPECT_EQ(meta.router.biased, std::nullopt);
  EXPECT_EQ(meta.router.groups, std::nullopt);
  EXPECT_EQ(meta.router.topk_groups, std::nullopt);
  EXPECT_EQ(meta.rank, 0U);
  EXPECT_EQ(meta.world_size, 1U);
  EXPECT_EQ(meta.sample_every, 1U);
  EXPECT_TRUE(meta.notes.empty());
}

TEST_F(Golden, MetaOfLayersThatDiffer) {
  const Meta meta = meta_of("meta-layers.jsonl");
  EXPECT_EQ(meta.engine_id, "1f3a9");
  ASSERT_TRUE(meta.layers);
  ASSERT_EQ(meta.layers->size(), 3U);
  const LayerMeta& looked_up = meta.layers->at(0);
  EXPECT_EQ(looked_up.layer, 0U);
  EXPECT_EQ(looked_up.experts, 8U);
  EXPECT_EQ(looked_up.zero_experts, 0U);
  EXPECT_EQ(looked_up.top_k, 2U);
  EXPECT_EQ(looked_up.score, std::nullopt);
  EXPECT_EQ(looked_up.table, true);
  const LayerMeta& scored = meta.layers->at(1);
  EXPECT_EQ(scored.zero_experts, 4U);
  EXPECT_EQ(scored.top_k, 4U);
  EXPECT_EQ(scored.score, "sigmoid");
  EXPECT_EQ(scored.renormalized, true);
  EXPECT_EQ(scored.scaling, 2.5);
  EXPECT_EQ(scored.biased, true);
  EXPECT_EQ(scored.groups, 4U);
  EXPECT_EQ(scored.topk_groups, 2U);
  EXPECT_EQ(scored.table, false);
  const LayerMeta& unknown = meta.layers->at(2);
  EXPECT_EQ(unknown.layer, 3U);
  EXPECT_EQ(unknown.experts, std::nullopt);
  EXPECT_EQ(unknown.top_k, std::nullopt);
  EXPECT_EQ(unknown.renormalized, std::nullopt);
  EXPECT_EQ(unknown.scaling, std::nullopt);
  EXPECT_EQ(unknown.groups, std::nullopt);
  EXPECT_EQ(unknown.table, std::nullopt);
  EXPECT_EQ(meta.top_k_of(0), 2U);
  EXPECT_EQ(meta.ids_of(0), 8U);
  EXPECT_EQ(meta.ids_of(1), 12U);
  EXPECT_EQ(meta.top_k_of(3), 4U);
  EXPECT_EQ(meta.ids_of(3), 12U);
  EXPECT_EQ(meta.declared(2), nullptr) << "a dense layer";

  const auto undeclared = parse_meta(golden("meta-layers.jsonl").at(1));
  ASSERT_TRUE(undeclared) << undeclared.error().message;
  EXPECT_EQ(undeclared->engine_id, std::nullopt);
  EXPECT_FALSE(undeclared->layers);
}

TEST_F(Golden, RoutesOfLayersThatDiffer) {
  text_ = golden("route-layers.jsonl");
  ASSERT_EQ(text_.size(), 3U);
  ASSERT_EQ(parser_.take(golden("meta-layers.jsonl").at(0), 1, content_),
            FileParser::Taken::kNothing)
      << parser_.error().message;
  const auto ids = [this](std::size_t index) {
    const auto route = line<Route>(index);
    EXPECT_EQ(route.weights.size(), route.expert_ids.size());
    return std::vector<uint16_t>(route.expert_ids.begin(), route.expert_ids.end());
  };
  EXPECT_EQ(ids(0), (std::vector<uint16_t>{7, 3}));
  EXPECT_TRUE(std::isnan(line<Route>(0).weights[1]));
  EXPECT_EQ(ids(1), (std::vector<uint16_t>{7, 11, kNoExpert, 0}));
  EXPECT_EQ(ids(2), (std::vector<uint16_t>{11, 0, 1, 2}));
}

TEST_F(Golden, ReservedLinesAreOfAnUnknownType) {
  for (const char* const type : {"tokens", "placement"}) {
    read(std::string(type) + ".jsonl", 1);
    EXPECT_EQ(line<Unknown>(0).type, type);
  }
}

TEST_F(Golden, MetaThatKnowsNothing) {
  const Meta meta = meta_of("meta-all-null.jsonl");
  for (const auto& text : {meta.model_id, meta.vllm_version, meta.torch_version, meta.device,
                           meta.engine, meta.engine_version, meta.host}) {
    EXPECT_EQ(text, std::nullopt);
  }
  EXPECT_EQ(meta.seed, std::nullopt);
  EXPECT_TRUE(meta.layers_logged.empty());
  EXPECT_EQ(meta.top_k, 1U);
  EXPECT_EQ(meta.num_experts, 65535U);
  EXPECT_EQ(meta.num_layers, std::nullopt);
  EXPECT_EQ(meta.router.score, "");
  EXPECT_EQ(meta.router.renormalized, std::nullopt);
  EXPECT_EQ(meta.router.scaling, std::nullopt);
  EXPECT_EQ(meta.rank, std::nullopt);
  EXPECT_EQ(meta.world_size, std::nullopt);
  EXPECT_EQ(meta.created_at, 0.0);
  EXPECT_EQ(meta.sample_every, 0U);
}

TEST_F(Golden, MetaOfArrowRows) {
  const Meta half = meta_of("meta-rows.jsonl");
  ASSERT_TRUE(half.rows);
  EXPECT_EQ(half.rows->file, "trace.arrows");
  EXPECT_EQ(half.rows->weights, "float16");
  EXPECT_FALSE(half.rows->wide);
  const auto ids = parse_meta(golden("meta-rows.jsonl").at(1));
  ASSERT_TRUE(ids) << ids.error().message;
  EXPECT_EQ(ids->rows->file, "trace.2.arrows");
  EXPECT_EQ(ids->rows->weights, std::nullopt);
  EXPECT_TRUE(ids->rows->wide);
  EXPECT_FALSE(meta_of("meta.jsonl").rows);
}

TEST_F(Golden, Rows) {
  text_ = golden("rows.jsonl");
  ASSERT_EQ(parser_.take(golden("meta-rows.jsonl").at(0), 1, content_),
            FileParser::Taken::kNothing);
  const auto rows = line<RowsWritten>(0);
  EXPECT_EQ(rows.seq, 33668U);
  EXPECT_EQ(rows.bytes, 1048960U);
  EXPECT_EQ(rows.batches, 3U);
  EXPECT_EQ(rows.delivered_total, 33540U);
  EXPECT_EQ(rows.filtered_total, 113U);
}

TEST_F(Golden, Base) {
  read("base.jsonl", 2);
  const auto under_way = line<Base>(0);
  EXPECT_EQ(under_way.part, std::nullopt);
  expect_under_way(under_way);
  const auto between_steps = line<Base>(1);
  EXPECT_EQ(between_steps.step, std::nullopt);
  EXPECT_EQ(between_steps.open, 0U);
  expect_totals(between_steps.totals, 970);
}

TEST_F(Golden, Part) {
  read("part.jsonl", 1);
  const auto part = line<Base>(0);
  EXPECT_EQ(part.part, 2U);
  expect_under_way(part);
}

TEST_F(Golden, Request) {
  read("request.jsonl", 2);
  const auto known = line<Request>(0);
  EXPECT_EQ(known.req_id, "chatcmpl-1");
  EXPECT_EQ(known.prompt_tokens, 57U);
  EXPECT_EQ(known.cached_tokens, 16U);
  EXPECT_EQ(known.request, 4U);
  EXPECT_EQ(known.event, 12U);
  const auto unknown = line<Request>(1);
  EXPECT_EQ(unknown.req_id, "a \"name\" \xC3\xA9");
  EXPECT_EQ(unknown.prompt_tokens, std::nullopt);
  EXPECT_EQ(unknown.cached_tokens, std::nullopt);
  EXPECT_EQ(unknown.request, 5U);
  EXPECT_EQ(unknown.event, std::nullopt);
}

TEST_F(Golden, RequestEnd) {
  read("request_end.jsonl", 2);
  const auto known = line<RequestEnd>(0);
  EXPECT_EQ(known.req_id, "chatcmpl-1");
  EXPECT_EQ(known.generated_tokens, 128U);
  EXPECT_EQ(known.status, "length");
  EXPECT_EQ(known.request, 4U);
  EXPECT_EQ(known.event, 99U);
  const auto unknown = line<RequestEnd>(1);
  EXPECT_EQ(unknown.req_id, "a \"name\" \xC3\xA9");
  EXPECT_EQ(unknown.generated_tokens, std::nullopt);
  EXPECT_EQ(unknown.status, "stop");
  EXPECT_EQ(unknown.request, 5U);
  EXPECT_EQ(unknown.event, 100U);
}

TEST_F(Golden, Step) {
  read("step.jsonl", 2);
  const auto recorded = line<Step>(0);
  EXPECT_EQ(recorded.step, 17U);
  EXPECT_EQ(recorded.rows, 57U);
  EXPECT_EQ(recorded.layers, 24U);
  EXPECT_EQ(recorded.time_ns, 9'000'000'000'001);
  EXPECT_EQ(recorded.seq, 900U);
  EXPECT_EQ(recorded.event, 41U);
  expect_totals(recorded.totals, 2338);
  const auto counted = line<Step>(1);
  EXPECT_EQ(counted.step, 18U);
  EXPECT_EQ(counted.rows, 1U);
  EXPECT_EQ(counted.layers, 0U);
  EXPECT_EQ(counted.event, 43U);
  expect_totals(counted.totals, 2338);
}

TEST_F(Golden, Route) {
  read("route.jsonl", 2);
  const auto known = line<Route>(0);
  EXPECT_EQ(known.req_id, "chatcmpl-1");
  EXPECT_EQ(known.token_idx, 7U);
  EXPECT_EQ(known.layer, 3U);
  EXPECT_EQ(std::vector(known.expert_ids.begin(), known.expert_ids.end()),
            (std::vector<uint16_t>{59, 0, 17, 5}));
  EXPECT_EQ(std::vector(known.weights.begin(), known.weights.end()),
            (std::vector<float>{0.31F, 0.12F, 1e-30F, 0.0966397F}));
  EXPECT_EQ(known.request, 4U);
  EXPECT_EQ(known.step, 17U);
  EXPECT_EQ(known.seq, 900U);
  const auto unknown = line<Route>(1);
  EXPECT_EQ(unknown.req_id, std::nullopt);
  EXPECT_EQ(unknown.token_idx, std::nullopt);
  EXPECT_EQ(unknown.layer, 255U);
  EXPECT_EQ(std::vector(unknown.expert_ids.begin(), unknown.expert_ids.end()),
            (std::vector<uint16_t>{1, kNoExpert, 2, 3}));
  EXPECT_TRUE(std::isnan(unknown.weights[0]));
  EXPECT_EQ(std::vector(unknown.weights.begin() + 1, unknown.weights.end()),
            (std::vector<float>{1.0F, -0.5F, std::numeric_limits<float>::max()}));
  EXPECT_EQ(unknown.request, std::nullopt);
  EXPECT_EQ(unknown.step, 17U);
  EXPECT_EQ(unknown.seq, 901U);
}

TEST_F(Golden, Control) {
  read("control.jsonl", 2);
  const auto selection = line<Control>(0);
  EXPECT_EQ(std::vector(selection.layers.begin(), selection.layers.end()),
            (std::vector<uint16_t>{0, 3, 255}));
  EXPECT_EQ(selection.sample_every, 10U);
  EXPECT_EQ(selection.from_step, 19U);
  EXPECT_EQ(selection.enabled, true);
  EXPECT_EQ(selection.event, 44U);
  const auto stopped = line<Control>(1);
  EXPECT_TRUE(stopped.layers.empty());
  EXPECT_EQ(stopped.sample_every, 0U);
  EXPECT_EQ(stopped.from_step, 20U);
  EXPECT_EQ(stopped.enabled, false);
  EXPECT_EQ(stopped.event, 45U);
  EXPECT_EQ(selection.reason, std::nullopt);
}

TEST_F(Golden, ControlByTheCollector) {
  read("control-reason.jsonl", 1);
  const auto stopped = line<Control>(0);
  EXPECT_EQ(stopped.enabled, false);
  EXPECT_EQ(stopped.reason, "max-total-size");
}

TEST_F(Golden, Loss) {
  read("loss.jsonl", 2);
  const auto ring = line<Loss>(0);
  EXPECT_EQ(ring.dropped, 50U);
  EXPECT_EQ(ring.dropped_total, 56U);
  EXPECT_EQ(ring.cause, "ring_full");
  EXPECT_EQ(ring.after_seq, 899U);
  EXPECT_EQ(ring.event_lost_total, 6U);
  const auto events = line<Loss>(1);
  EXPECT_EQ(events.dropped, 6U);
  EXPECT_EQ(events.dropped_total, 6U);
  EXPECT_EQ(events.cause, "event_ring_full");
  EXPECT_EQ(events.after_seq, std::nullopt);
  EXPECT_EQ(events.event_lost_total, 6U);
}

TEST_F(Golden, Torn) {
  read("torn.jsonl", 2);
  const auto numbered = line<Torn>(0);
  EXPECT_EQ(numbered.first_seq, 880U);
  EXPECT_EQ(numbered.count, 12U);
  const auto unseen = line<Torn>(1);
  EXPECT_EQ(unseen.first_seq, std::nullopt);
  EXPECT_EQ(unseen.count, 3U);
}

TEST_F(Golden, End) {
  read("end.jsonl", 3);
  const auto closed = line<End>(0);
  expect_end(closed, 1000, 830, "closed");
  ASSERT_TRUE(closed.cost);
  EXPECT_EQ(closed.cost->announce_ns, 123456U);
  EXPECT_EQ(closed.cost->hook_ns, 7890U);
  EXPECT_EQ(closed.open, std::nullopt);
  const auto died = line<End>(1);
  expect_end(died, 1000, 830, "producer died");
  ASSERT_TRUE(died.cost);
  EXPECT_EQ(died.cost->announce_ns, 123456U);
  EXPECT_EQ(died.cost->hook_ns, 7890U);
  const auto bad = line<End>(2);
  expect_end(bad, 1000, 830, "bad segment");
  ASSERT_TRUE(bad.cost);
  EXPECT_EQ(bad.cost->announce_ns, std::nullopt);
  EXPECT_EQ(bad.cost->hook_ns, std::nullopt);
}

TEST_F(Golden, EndOfAPart) {
  read("end-continued.jsonl", 1);
  const auto end = line<End>(0);
  expect_end(end, 970, 800, "continued");
  ASSERT_TRUE(end.cost);
  EXPECT_EQ(end.cost->hook_ns, 7890U);
  EXPECT_EQ(end.open, 30U);
}

TEST_F(Golden, EndWithRing) {
  read("end-ring.jsonl", 4);
  for (const std::size_t index : {0, 1, 2, 3}) {
    const auto end = line<End>(index);
    ASSERT_TRUE(end.ring);
    EXPECT_EQ(end.ring->slots, 1048576U);
    EXPECT_EQ(end.ring->high_water, 98304U);
  }
  expect_end(line<End>(2), 1000, 830, "bad segment");
  expect_end(line<End>(3), 970, 800, "continued");
  EXPECT_EQ(line<End>(3).open, 30U);
}

TEST_F(Golden, EndWithoutCost) {
  read("end-without-cost.jsonl", 1);
  const auto end = line<End>(0);
  expect_end(end, 1000, 830, "closed");
  EXPECT_FALSE(end.cost);
  EXPECT_FALSE(end.ring);
  EXPECT_EQ(end.open, std::nullopt);
}

// The whole trace that FORMAT.md shows.
TEST(Format, ItsWholeTraceIsGood) {
  const std::string text = read_bytes(MOETRACE_GOLDEN_DIR "/../../FORMAT.md");
  const std::string fence = "```jsonl\n";
  const std::size_t begin = text.find(fence) + fence.size();
  const std::size_t end = text.find("```", begin);
  ASSERT_NE(end, std::string::npos);
  const TestFolder folder;
  const auto summary = verify_trace(folder.write("t.jsonl", text.substr(begin, end - begin)));
  ASSERT_TRUE(summary) << summary.error().message;
  EXPECT_EQ(summary->rows, 5U);
  EXPECT_EQ(summary->attempted, 6U);
  EXPECT_EQ(summary->dropped, 1U);
  EXPECT_EQ(summary->status, "closed");
  EXPECT_EQ(summary->warnings, std::vector<std::string>{});
}

TEST_F(Golden, PublicLog) {
  const auto text = golden("public-log.jsonl");
  ASSERT_EQ(text.size(), 4U);
  FileParser parser(60);
  Content content;
  ASSERT_EQ(parser.take(text[0], 1, content), FileParser::Taken::kNothing)
      << parser.error().message;
  const Meta& meta = parser.meta();
  EXPECT_TRUE(meta.plain());
  EXPECT_EQ(meta.model_id, "Qwen/Qwen1.5-MoE-A2.7B-Chat");
  EXPECT_EQ(meta.vllm_version, "0.11.0");
  EXPECT_EQ(meta.torch_version, "2.8.0+cu126");
  EXPECT_EQ(meta.device, "cuda");
  EXPECT_EQ(meta.seed, 1234);
  EXPECT_EQ(meta.layers_logged, std::vector<uint16_t>{0});
  EXPECT_EQ(meta.top_k, 4U);
  EXPECT_EQ(meta.num_experts, std::nullopt);
  EXPECT_EQ(meta.created_at, 1764302556.0129569);
  const auto route = [&](std::size_t index) {
    EXPECT_EQ(parser.take(text[index], index + 1, content), FileParser::Taken::kContent)
        << parser.error().message;
    return std::get<Route>(content);
  };
  const Route whole = route(1);
  EXPECT_EQ(whole.req_id, "r0");
  EXPECT_EQ(whole.token_idx, 0U);
  EXPECT_EQ(whole.layer, 0U);
  EXPECT_EQ(std::vector(whole.expert_ids.begin(), whole.expert_ids.end()),
            (std::vector<uint16_t>{43, 5, 10, 6}));
  EXPECT_EQ(std::vector(whole.weights.begin(), whole.weights.end()),
            (std::vector<float>{0.3094F, 0.1157F, 0.0957F, 0.0734F}));
  EXPECT_EQ(whole.request, std::nullopt);
  EXPECT_EQ(whole.step, std::nullopt);
  EXPECT_EQ(whole.seq, std::nullopt);
  const Route not_numbers = route(2);
  EXPECT_EQ(not_numbers.token_idx, std::nullopt);
  EXPECT_TRUE(std::isnan(not_numbers.weights[0]));
  EXPECT_TRUE(std::isnan(not_numbers.weights[1]));
  EXPECT_EQ(not_numbers.weights[2], 0.5F);
  EXPECT_TRUE(std::isnan(not_numbers.weights[3]));
  const Route shortest = route(3);
  EXPECT_EQ(shortest.req_id, std::nullopt);
  EXPECT_EQ(shortest.expert_ids[0], 4U);
  EXPECT_EQ(shortest.weights.size(), 4U);
  EXPECT_TRUE(std::isnan(shortest.weights[0]));
}

}  // namespace
}  // namespace moetrace::trace
