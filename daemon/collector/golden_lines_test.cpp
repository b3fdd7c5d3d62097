// The collector of today writes the golden lines (trace/testdata/golden) byte for byte, and the
// trace reader looks at every key in them.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "daemon/collector/lines.hpp"
#include "daemon/collector/route_text.hpp"
#include "daemon/collector/size_limit.hpp"
#include "daemon/collector/stats_line.hpp"
#include "daemon/collector/test_trace.hpp"
#include "shm/layer_mask.hpp"
#include "trace/file_parser.hpp"

namespace moetrace {
namespace {

using Json = nlohmann::ordered_json;

const std::string kTraceId = "01234567-89ab-4def-8123-456789abcdef";
constexpr const char* kWritten[] = {"meta.jsonl",          "meta-router-without-bias.jsonl",
                                    "meta-all-null.jsonl", "base.jsonl",
                                    "part.jsonl",          "request.jsonl",
                                    "request_end.jsonl",   "step.jsonl",
                                    "route.jsonl",         "control.jsonl",
                                    "loss.jsonl",          "torn.jsonl",
                                    "end-ring.jsonl",      "meta-layers.jsonl",
                                    "route-layers.jsonl",  "meta-rows.jsonl",
                                    "rows.jsonl",          "request-at-seq.jsonl",
                                    "control-reason.jsonl"};

std::string golden(const std::string& name) {
  const std::string text = read_text(MOETRACE_GOLDEN_DIR "/" + name);
  EXPECT_FALSE(text.empty()) << name;
  return text;
}

template <std::size_t Size>
void set(char (&field)[Size], const std::string& text) {
  ASSERT_LT(text.size(), Size);
  std::memcpy(field, text.c_str(), text.size() + 1);
}

moetrace_layer_mask mask_of(std::initializer_list<std::uint32_t> layers) {
  moetrace_layer_mask mask{};
  for (const std::uint32_t layer : layers) add_layer(mask, layer);
  return mask;
}

// 99 filtered, 50 + 6 dropped, 1 + 14 torn; the next slot is 900 if 800 were delivered.
RunningTotals totals(std::uint64_t attempted, std::uint64_t delivered = 800) {
  return *RunningTotals::from_line({.seq = delivered + 100,
                                    .attempted = attempted,
                                    .delivered = delivered,
                                    .filtered = 99,
                                    .dropped = 56,
                                    .torn = 15,
                                    .event_lost = 6});
}

moetrace_ring_header full_header() {
  moetrace_ring_header header{};
  set(header.model_id, "test/model");
  set(header.vllm_version, "0.11.0");
  set(header.torch_version, "2.9.0");
  set(header.device, "cuda:0");
  set(header.engine, "vllm");
  set(header.engine_version, "0.11.0+moetrace");
  set(header.router_score, "sigmoid");
  set(header.host, "gpu-17");
  set(header.notes, "first note\nsecond \"note\"\n");
  header.flags = MOETRACE_HAS_SEED | MOETRACE_ROUTER_KNOWN | MOETRACE_ROUTER_RENORMALIZED |
                 MOETRACE_ROUTER_BIASED;
  header.seed = -7;
  header.layers_logged = mask_of({0, 3, 255});
  header.top_k = 4;
  header.num_experts = 60;
  header.num_layers = 256;
  header.router_scaling = 2.5;
  header.router_groups = 8;
  header.router_topk_groups = 4;
  header.rank = 3;
  header.world_size = 8;
  header.tp_rank = 1;
  header.pp_rank = 1;
  header.ep_rank = 3;
  header.created_realtime_ns = 1764302556250000000;
  header.sample_every = 10;
  return header;
}

// Of producers before ABI 1.3.
const LayerTable kNoLayers(0, 0, 0);

TEST(GoldenLines, Meta) {
  EXPECT_EQ(meta_line(full_header(), kNoLayers, kTraceId), golden("meta.jsonl"));

  moetrace_ring_header simple{};
  set(simple.model_id, "test/model");
  set(simple.device, "cpu");
  set(simple.engine, "moetrace-engine");
  set(simple.engine_version, "0.1.0");
  set(simple.router_score, "softmax");
  set(simple.host, "box");
  simple.flags = MOETRACE_HAS_SEED | MOETRACE_ROUTER_KNOWN;
  simple.seed = 1234;
  simple.layers_logged = mask_of({0, 1});
  simple.top_k = 2;
  simple.num_experts = 8;
  simple.num_layers = 2;
  simple.router_scaling = 1;
  simple.world_size = 1;
  simple.created_realtime_ns = 1764302556250000000;
  simple.sample_every = 1;
  EXPECT_EQ(meta_line(simple, kNoLayers, kTraceId), golden("meta-router-without-bias.jsonl"));

  moetrace_ring_header unknown{};
  unknown.flags = MOETRACE_LAYERS_UNKNOWN | MOETRACE_RANKS_UNKNOWN;
  unknown.top_k = 1;
  unknown.num_experts = 65535;
  EXPECT_EQ(meta_line(unknown, kNoLayers, kTraceId), golden("meta-all-null.jsonl"));
}

// Of a model whose layers differ: layer 2 is dense, layer 3 unknown.
LayerTable mixed_layers(const moetrace_ring_header& header) {
  std::vector<moetrace_layer_entry> entries(header.num_layers);
  entries[0].experts = 8;
  entries[0].top_k = 2;
  entries[0].flags =
      MOETRACE_LAYER_ZERO_EXPERTS_KNOWN | MOETRACE_LAYER_TABLE_KNOWN | MOETRACE_LAYER_TABLE;
  entries[1].experts = 8;
  entries[1].zero_experts = 4;
  entries[1].top_k = 4;
  entries[1].flags = 2 * MOETRACE_LAYER_GROUPS_KNOWN - 1 - MOETRACE_LAYER_TABLE;
  entries[1].groups = 4;
  entries[1].topk_groups = 2;
  entries[1].scaling = 2.5;
  set(entries[1].score, "sigmoid");
  return {header, entries};
}

moetrace_ring_header mixed_header() {
  moetrace_ring_header header{};
  header.abi_minor = 3;
  set(header.model_id, "test/mixed");
  set(header.device, "cuda:0");
  set(header.engine, "vllm");
  set(header.engine_version, "0.24.0");
  set(header.host, "gpu-17");
  header.layers_logged = header.moe_layers = mask_of({0, 1, 3});
  header.top_k = 4;
  header.num_experts = 12;
  header.num_layers = 4;
  header.rank = 1;
  header.world_size = 2;
  header.dp_rank = 1;
  header.ep_rank = 1;
  header.created_realtime_ns = 1764302556250000000;
  header.sample_every = 1;
  return header;
}

TEST(GoldenLines, MetaOfLayersThatDiffer) {
  moetrace_ring_header header = mixed_header();
  set(header.engine_id, "1f3a9");
  const std::string declared = meta_line(header, mixed_layers(header), kTraceId);
  header.engine_id[0] = '\0';
  EXPECT_EQ(declared + meta_line(header, LayerTable(header, {}), kTraceId),
            golden("meta-layers.jsonl"));
}

TEST(GoldenLines, RoutesOfLayersThatDiffer) {
  const RouteText text(mixed_layers(mixed_header()));
  LineBuffer out;
  const auto append = [&](std::uint32_t layer, std::initializer_list<std::uint16_t> ids,
                          std::initializer_list<float> weights, std::uint64_t seq) {
    text.append(out, route_origin(json_string("r0"), 0), 0, layer, ids.begin(), weights.begin(),
                RouteText::step_text(0), seq);
  };
  append(0, {7, 3, 0xFFFF, 0xFFFF}, {NAN, NAN, 0, 0}, 0);
  append(1, {7, 11, 12, 0}, {0.5F, 0.25F, 0, 0.125F}, 1);
  append(3, {11, 0, 1, 2}, {0.5F, 0.25F, 0.125F, 0.0625F}, 2);
  EXPECT_EQ(out.view(), golden("route-layers.jsonl"));
}

TEST(GoldenLines, StartOfAFile) {
  LineBuffer base;
  append_start(base, 1, totals(1000), 41, 17);
  append_start(base, 1, totals(970), 41, std::nullopt);
  EXPECT_EQ(base.view(), golden("base.jsonl"));
  LineBuffer part;
  append_start(part, 2, totals(1000), 41, 17);
  EXPECT_EQ(part.view(), golden("part.jsonl"));
}

TEST(GoldenLines, Requests) {
  const std::string escaped = "a \"name\" \xC3\xA9";
  LineBuffer begun;
  append_request(begun, {4, 57, 16, "chatcmpl-1"}, 12);
  append_request(begun, {5, MOETRACE_UNKNOWN_TOKENS, MOETRACE_UNKNOWN_TOKENS, escaped},
                 std::nullopt);
  EXPECT_EQ(begun.view(), golden("request.jsonl"));
  LineBuffer ended;
  append_request_end(ended, {4, 128, "length"}, json_string("chatcmpl-1"), 99);
  append_request_end(ended, {5, MOETRACE_UNKNOWN_TOKENS, "stop"}, json_string(escaped), 100);
  EXPECT_EQ(ended.view(), golden("request_end.jsonl"));
}

TEST(GoldenLines, OfAPartWithArrowRows) {
  const std::string meta = meta_line(full_header(), kNoLayers, kTraceId);
  const RowsForm half{.top_k = 4, .num_experts = 60, .weights = RowWeights::kFloat16};
  const RowsForm ids{.top_k = 4, .num_experts = 60, .weights = RowWeights::kNone, .wide = true};
  const std::string first = meta_with_rows(meta, half, "trace.arrows");
  EXPECT_EQ(first + meta_with_rows(meta, ids, "trace.2.arrows"), golden("meta-rows.jsonl"));
  EXPECT_EQ(rows_key(first)->form, half);
  LineBuffer request;
  append_request(request, {4, 57, 16, "chatcmpl-1"}, 12);
  add_at_seq(request, 900);
  EXPECT_EQ(request.view(), golden("request-at-seq.jsonl"));
  LineBuffer rows;
  const auto totals = RunningTotals::from_line({.seq = 33668,
                                                .attempted = 40000,
                                                .delivered = 33540,
                                                .filtered = 113,
                                                .dropped = 0,
                                                .torn = 15,
                                                .event_lost = 0});
  append_rows(rows, *totals, 1048960, 3);
  EXPECT_EQ(rows.view(), golden("rows.jsonl"));
}

TEST(GoldenLines, Steps) {
  LineBuffer out;
  append_step(out, {.step = 17, .rows = 57, .layers = 24}, 9'000'000'000'001, totals(2338), 41);
  append_step(out, {.step = 18, .rows = 1, .layers = 0}, 9'000'000'000'002, totals(2338), 43);
  EXPECT_EQ(out.view(), golden("step.jsonl"));
}

TEST(GoldenLines, Routes) {
  const RouteText text(LayerTable(256, 60, 4));
  const std::string step = RouteText::step_text(17);
  LineBuffer out;
  const std::uint16_t ids[] = {59, 0, 17, 5};
  const float weights[] = {0.31F, 0.12F, 1e-30F, 0.0966397F};
  text.append(out, route_origin(json_string("chatcmpl-1"), 4), 7, 3, ids, weights, step, 900);
  const std::uint16_t with_hole[] = {1, MOETRACE_NO_EXPERT, 2, 3};
  const float extremes[] = {NAN, 1, -0.5F, std::numeric_limits<float>::max()};
  text.append(out, route_origin("null", std::nullopt), std::nullopt, 255, with_hole, extremes, step,
              901);
  EXPECT_EQ(out.view(), golden("route.jsonl"));
}

TEST(GoldenLines, Controls) {
  LineBuffer out;
  append_control(out, {19, true, 10, mask_of({0, 3, 255})}, 44);
  append_control(out, {20, false, 0, {}}, 45);
  EXPECT_EQ(out.view(), golden("control.jsonl"));
  out.clear();
  append_control(out, {20, false, 1, mask_of({0, 3, 255})}, 45, kMaxTotalSize);
  EXPECT_EQ(out.view(), golden("control-reason.jsonl"));
}

TEST(GoldenLines, LossAndTorn) {
  LineBuffer loss;
  append_loss(loss, 50, totals(1000), "ring_full", 899);
  RunningTotals lost;
  EXPECT_TRUE(lost.lose_events_up_to(6));
  append_loss(loss, 6, lost, "event_ring_full", std::nullopt);
  EXPECT_EQ(loss.view(), golden("loss.jsonl"));
  LineBuffer torn;
  append_torn(torn, 880, 12);
  append_torn(torn, std::nullopt, 3);
  EXPECT_EQ(torn.view(), golden("torn.jsonl"));
}

TEST(GoldenLines, Ends) {
  const Cost cost{123456, 7890};
  LineBuffer end;
  const RingUse use{1048576, 98304};
  append_end(end, totals(1000, 830), kClosed, cost, use);
  append_end(end, totals(1000, 830), kProducerDied, cost, use);
  append_end(end, totals(1000, 830), kBadSegmentEnd, std::nullopt, use);
  append_end(end, totals(970), kContinued, cost, use, 30);
  EXPECT_EQ(end.view(), golden("end-ring.jsonl"));
}

TEST(GoldenLines, Stats) {
  const TestDirectory directory;
  const auto producer = RingProducer::open(test_settings(directory));
  ASSERT_TRUE(producer) << producer.error().message;
  run_step(**producer, (*producer)->requests().begin("r0", 3, 0), 0, 3);
  (*producer)->hook().close();  // mirrors the counts
  const auto segment = CollectorSegment::open(directory.path(), (*producer)->name(),
                                              CollectorSegment::Access::kCollect);
  ASSERT_TRUE(segment) << segment.error().message;
  const auto stats = stats_line(segment->map(), kTraceId, totals(1000));
  ASSERT_TRUE(stats);
  EXPECT_EQ(stats->line, golden("stats.jsonl"));
}

// Whether the reader takes a line of the file `name`, after a meta line where it is not one itself.
bool readable(const std::string& name, const std::string& line) {
  trace::FileParser parser(std::nullopt);
  trace::Content content;
  if (!line.starts_with("{\"type\":\"meta\"")) {
    const bool apart = name == "rows.jsonl" || name == "request-at-seq.jsonl";
    std::string meta = golden(name == "route-layers.jsonl" ? "meta-layers.jsonl"
                              : apart                      ? "meta-rows.jsonl"
                                                           : "meta.jsonl");
    meta.resize(meta.find('\n'));
    if (parser.take(meta, 1, content) == trace::FileParser::Taken::kWrong) return false;
  }
  return parser.take(line, 2, content) != trace::FileParser::Taken::kWrong;
}

// A reader that looks at a key refuses a value of a type that the key never has; one that drops the
// key lets the value pass.
TEST(GoldenLines, TheReaderLooksAtEveryKey) {
  for (const char* name : kWritten) {
    std::istringstream file(golden(name));
    for (std::string text; std::getline(file, text);) {
      const Json line = Json::parse(text);
      ASSERT_TRUE(readable(name, line.dump())) << line;
      for (const auto& [key, value] : line.items()) {
        Json changed = line;
        changed[key] = Json::array({Json::array()});
        EXPECT_FALSE(readable(name, changed.dump())) << name << " drops " << key;
        const bool objects = value.is_array() && !value.empty() && value[0].is_object();
        if (!value.is_object() && !objects) continue;
        for (const auto& [inner, ignored] : (objects ? value[0] : value).items()) {
          changed = line;
          (objects ? changed[key][0] : changed[key])[inner] = Json::array({Json::array()});
          EXPECT_FALSE(readable(name, changed.dump())) << name << " drops " << key << "." << inner;
        }
      }
    }
  }
}

}  // namespace
}  // namespace moetrace
