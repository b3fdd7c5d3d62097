#include "plotter/expert_load.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "plotter/metrics.hpp"
#include "trace/test_files.hpp"

namespace moetrace::plot {
namespace {

using trace::TestFolder;

struct MetaOptions {
  std::string trace_id = "a";
  std::string model = "tiny";
  int top_k = 2;
  int num_experts = 4;
  std::string layers = "[0,1]";
};

std::string meta(const MetaOptions& options = {}) {
  return R"({"type":"meta","model_id":")" + options.model + R"(","layers_logged":)" +
         options.layers + R"(,"top_k":)" + std::to_string(options.top_k) + R"(,"num_experts":)" +
         std::to_string(options.num_experts) + R"(,"schema":"moetrace/1","trace_id":")" +
         options.trace_id + "\"}\n";
}

std::string route(int step, int token, int layer, const std::string& ids) {
  return R"({"type":"route","req_id":"r","token_idx":)" + std::to_string(token) + R"(,"layer":)" +
         std::to_string(layer) + R"(,"topk_ids":)" + ids +
         R"(,"topk_weights":[0.5,0.25],"request":0,"step":)" + std::to_string(step) +
         R"(,"seq":0})" + "\n";
}

class ExpertLoadTest : public testing::Test {
 protected:
  TestFolder folder_;

  std::string error_of(const std::vector<std::string>& paths) {
    const auto load = read_expert_load(paths, std::nullopt);
    return load ? "" : load.error().message;
  }
};

TEST_F(ExpertLoadTest, CountsPerLayerAndOverAll) {
  const auto load = read_expert_load(
      {folder_.write(
          "a",
          meta() + route(0, 0, 0, "[3,1]") + route(0, 1, 0, "[3,0]") + route(0, 0, 1, "[3,2]") +
              route(1, 2, 0, "[1,null]") +
              R"({"type":"loss","dropped":5,"dropped_total":5,"cause":"ring_full","after_seq":3})"
              "\n"
              R"({"type":"loss","dropped":2,"dropped_total":7,"cause":"event_ring_full","after_seq":3})"
              "\n"
              R"({"type":"torn","first_seq":null,"count":3})"
              "\n")},
      std::nullopt);
  ASSERT_TRUE(load) << load.error().message;
  EXPECT_EQ(load->layers.at(0).counts, (std::vector<uint64_t>{1, 2, 0, 2}));
  EXPECT_EQ(load->layers.at(1).counts, (std::vector<uint64_t>{0, 0, 1, 1}));
  EXPECT_EQ(load->total().counts, (std::vector<uint64_t>{1, 2, 1, 3}));
  EXPECT_EQ(load->total().rows, 4U);
  EXPECT_EQ(load->tokens, 3U);  // two in step 0, one in step 1
  EXPECT_EQ(load->dropped, 7U);
  EXPECT_EQ(load->torn, 3U);
}

// Steps with different layers: a step has as many rows as its fullest layer.
TEST_F(ExpertLoadTest, TokensAreDistinctRows) {
  const auto load = read_expert_load(
      {folder_.write("a", meta() + route(0, 0, 0, "[0,1]") + route(1, 1, 1, "[0,1]") +
                              route(2, 2, 0, "[0,1]") + route(2, 2, 1, "[0,1]"))},
      std::nullopt);
  ASSERT_TRUE(load);
  EXPECT_EQ(load->tokens, 3U);
}

TEST_F(ExpertLoadTest, RanksAddUp) {
  const auto same_layers =
      read_expert_load({folder_.write("a", meta() + route(0, 0, 0, "[0,1]")),
                        folder_.write("b", meta({.trace_id = "b"}) + route(0, 0, 0, "[0,2]"))},
                       std::nullopt);
  ASSERT_TRUE(same_layers);
  EXPECT_EQ(same_layers->files, 2U);
  EXPECT_EQ(same_layers->tokens, 2U);
  EXPECT_EQ(same_layers->total().counts, (std::vector<uint64_t>{2, 1, 1, 0}));

  // Pipeline ranks see the same token in their own layers.
  const auto own_layers =
      read_expert_load({folder_.write("a", meta() + route(0, 0, 0, "[0,1]")),
                        folder_.write("b", meta({.trace_id = "b"}) + route(0, 0, 1, "[0,2]"))},
                       std::nullopt);
  ASSERT_TRUE(own_layers);
  EXPECT_EQ(own_layers->tokens, 1U);
}

TEST_F(ExpertLoadTest, FilesThatDoNotBelongTogether) {
  const std::string first = folder_.write("a", meta());
  const auto with = [&](const MetaOptions& options) {
    return error_of({first, folder_.write("b", meta(options))});
  };
  const std::string b = folder_.at("b") + ": ";
  EXPECT_EQ(with({.trace_id = "b", .model = "other"}),
            b + "it is of model other, the first file is of model tiny");
  EXPECT_EQ(with({.trace_id = "b", .top_k = 1}), b + "has top_k 1, the first file 2");
  EXPECT_EQ(with({.trace_id = "b", .num_experts = 8}), b + "has 8 experts, the first file 4");
  EXPECT_EQ(with({}), b + "is the same trace as " + first);
  EXPECT_EQ(error_of({first, folder_.at("none")}),
            folder_.at("none") + ": No such file or directory");
}

// The largest id is only a lower bound: experts with larger ids may have stayed idle.
TEST_F(ExpertLoadTest, NumberOfExpertsIsUnknown) {
  const std::string plain = folder_.write(
      "plain",
      R"({"type":"meta","model_id":"m","layers_logged":[0],"top_k":2})"
      "\n"
      R"({"type":"route","req_id":"r","token_idx":0,"layer":0,"topk_ids":[43,5],"topk_weights":[1,2]})"
      "\n");
  EXPECT_EQ(
      error_of({plain}),
      plain + ": it does not state the model's number of experts, only that it is at least 44");
  const auto load = read_expert_load({plain}, 60);
  ASSERT_TRUE(load);
  EXPECT_EQ(load->total().counts.size(), 60U);
  EXPECT_EQ(load->total().counts[43], 1U);
}

TEST_F(ExpertLoadTest, OneFileUnderTwoNamesCountsOnce) {
  const std::string file = folder_.write("a", meta() + route(0, 0, 0, "[0,1]"));
  std::filesystem::create_symlink(file, folder_.at("link"));
  std::filesystem::create_hard_link(file, folder_.at("hard"));
  const auto load =
      read_expert_load({file, folder_.at("link"), file, folder_.at("hard")}, std::nullopt);
  ASSERT_TRUE(load) << load.error().message;
  EXPECT_EQ(load->files, 1U);
  EXPECT_EQ(load->total().counts, (std::vector<uint64_t>{1, 1, 0, 0}));
  ASSERT_EQ(load->notes.size(), 3U);
  EXPECT_EQ(load->notes[0], folder_.at("link") + ": is the same file as " + file +
                                ": counted once; give each file once");
  // A copy is another file, but the same trace.
  EXPECT_EQ(error_of({file, folder_.write("copy", trace::read_bytes(file))}),
            folder_.at("copy") + ": is the same trace as " + file);
}

TEST_F(ExpertLoadTest, PartsOfATraceAddUp) {
  const auto part = [](int number) {
    return R"({"type":"part","part":)" + std::to_string(number) +
           R"(,"seq":1,"event":1,"step":0,"open":1,"dropped_total":0})" + "\n";
  };
  // A step of two layers, cut between them.
  const std::string first = folder_.write("1", meta() + route(0, 0, 0, "[0,1]"));
  const std::string second =
      folder_.write("2", meta() + part(2) + route(0, 0, 1, "[2,3]") + route(1, 1, 0, "[0,1]"));
  const auto load = read_expert_load({first, second}, std::nullopt);
  ASSERT_TRUE(load) << load.error().message;
  EXPECT_EQ(load->files, 2U);
  EXPECT_EQ(load->total().rows, 3U);
  EXPECT_EQ(load->tokens, 2U);
  EXPECT_TRUE(load->notes.empty());
  const std::string fifth = folder_.write("5", meta() + part(5));
  const auto rest = read_expert_load({fifth, second}, std::nullopt);
  ASSERT_TRUE(rest) << rest.error().message;
  ASSERT_EQ(rest->notes.size(), 2U);
  EXPECT_TRUE(rest->notes[0].starts_with(second + ": part 1 of its trace is absent, "));
  EXPECT_TRUE(rest->notes[1].starts_with(fifth + ": parts 3 to 4 of its trace are absent, "));
  const std::string again = folder_.write("again", meta() + part(2));
  EXPECT_EQ(error_of({first, second, again}), again + ": is the same trace as " + second);
}

TEST_F(ExpertLoadTest, UnfinishedLastLinesAreLeftOut) {
  const std::string text = meta() + route(0, 0, 0, "[0,1]") + route(0, 1, 0, "[2,3]");
  for (size_t size = meta().size(); size < text.size(); ++size) {
    const auto load = read_expert_load({folder_.write("a", text.substr(0, size))}, std::nullopt);
    ASSERT_TRUE(load) << load.error().message;
    const bool whole = text[size - 1] == '\n' || text[size] == '\n';
    EXPECT_EQ(load->notes.size(), whole ? 0U : 1U) << size;
  }
}

// What a log says of the model may come after its rows.
TEST_F(ExpertLoadTest, LateMetaLine) {
  const std::string row = R"({"type":"route","layer":3,"topk_ids":[1,2]})"
                          "\n";
  const std::string late = row +
                           R"({"type":"meta","model_id":"m","num_experts":4,"layers_logged":[0]})"
                           "\n" +
                           row;
  const auto load = read_expert_load({folder_.write("late", late)}, std::nullopt);
  ASSERT_TRUE(load) << load.error().message;
  EXPECT_EQ(load->model_id, "m");
  EXPECT_EQ(load->top_k, 2U);
  EXPECT_EQ(load->layers.size(), 2U);
  EXPECT_EQ(load->layers.at(0).counts, std::vector<uint64_t>(4));
  EXPECT_EQ(load->layers.at(3).counts, (std::vector<uint64_t>{0, 2, 2, 0}));
  EXPECT_EQ(error_of({folder_.write("m", late), folder_.write("none", row)}),
            folder_.at("none") +
                ": it does not state the model's number of experts, only that it is at least 3");
}

// A plain log does not state what was lost, so the losses of another file are not the total.
TEST_F(ExpertLoadTest, LossesOfAPlainLogAreUnknown) {
  const std::string plain = folder_.write(
      "plain", R"({"type":"meta","model_id":"tiny","layers_logged":[0],"top_k":2,"num_experts":4})"
               "\n");
  const std::string ours = folder_.write(
      "ours",
      meta() + R"({"type":"loss","dropped":5,"dropped_total":5,"cause":"ring_full","after_seq":3})"
               "\n");
  for (const auto& files : {std::vector{plain}, {plain, ours}, {ours, plain}}) {
    const auto load = read_expert_load(files, std::nullopt);
    ASSERT_TRUE(load) << load.error().message;
    EXPECT_EQ(load->dropped, std::nullopt);
    EXPECT_EQ(load->torn, std::nullopt);
    const auto metrics = nlohmann::json::parse(metrics_json(*load));
    EXPECT_TRUE(metrics.at("dropped").is_null());
    EXPECT_TRUE(metrics.at("torn").is_null());
  }
}

TEST(Metrics, AgainstHandComputedValues) {
  // 1/2, 1/4, 1/8, 1/8: 1/2*1 + 1/4*2 + 2 * 1/8*3 = 1.75 bits of 2.
  const Metrics metrics = measure({1, 4, 2, 1});
  EXPECT_EQ(metrics.total_selections, 8U);
  EXPECT_DOUBLE_EQ(*metrics.entropy_bits, 1.75);
  EXPECT_DOUBLE_EQ(metrics.max_entropy_bits, 2);
  EXPECT_DOUBLE_EQ(*metrics.normalized_entropy, 0.875);
  ASSERT_EQ(metrics.top_3.size(), 3U);
  EXPECT_EQ(metrics.top_3[0].expert, 1U);
  EXPECT_EQ(metrics.top_3[0].count, 4U);
  EXPECT_DOUBLE_EQ(metrics.top_3[0].share, 0.5);
  EXPECT_EQ(metrics.top_3[1].expert, 2U);
  EXPECT_EQ(metrics.top_3[2].expert, 0U);  // ties with expert 3
  EXPECT_DOUBLE_EQ(metrics.top_3_share(), 0.875);
}

TEST(Metrics, TiesGoToTheSmallerId) {
  const Metrics metrics = measure({5, 7, 5, 7, 5});
  EXPECT_EQ(metrics.top_3[0].expert, 1U);
  EXPECT_EQ(metrics.top_3[1].expert, 3U);
  EXPECT_EQ(metrics.top_3[2].expert, 0U);
}

TEST(Metrics, ExpertsThatWereNeverPickedAreNotAtTheTop) {
  const Metrics metrics = measure({0, 0, 9, 0});
  ASSERT_EQ(metrics.top_3.size(), 1U);
  EXPECT_EQ(metrics.top_3[0].expert, 2U);
  EXPECT_EQ(*metrics.entropy_bits, 0);
  EXPECT_FALSE(std::signbit(*metrics.entropy_bits));
}

TEST(Metrics, NothingToMeasure) {
  const Metrics none = measure({0, 0});
  EXPECT_TRUE(none.top_3.empty());
  EXPECT_EQ(none.entropy_bits, std::nullopt);
  EXPECT_EQ(none.normalized_entropy, std::nullopt);
  EXPECT_EQ(none.max_entropy_bits, 1);
  EXPECT_EQ(measure({3}).normalized_entropy, std::nullopt);  // 0 of 0 bits
}

TEST_F(ExpertLoadTest, MetricsFile) {
  const auto load = read_expert_load(
      {folder_.write("a", meta({.layers = "[0,3]"}) + route(0, 0, 0, "[3,1]"))}, std::nullopt);
  ASSERT_TRUE(load);
  const auto json = nlohmann::json::parse(metrics_json(*load));
  EXPECT_EQ(json["num_experts"], 4);
  EXPECT_EQ(json["total_selections"], 2);
  EXPECT_EQ(json["shannon_entropy_bits"], 1.0);
  EXPECT_EQ(json["max_entropy_bits"], 2.0);
  EXPECT_EQ(json["normalized_entropy"], 0.5);
  EXPECT_EQ(json["top_3_experts"].dump(),
            R"([{"count":1,"expert":1,"share":0.5},{"count":1,"expert":3,"share":0.5}])");
  ASSERT_EQ(json["layers"].size(), 2U);
  EXPECT_EQ(json["layers"][0]["layer"], 0);
  EXPECT_EQ(json["layers"][0]["total_selections"], 2);
  EXPECT_EQ(json["layers"][1]["layer"], 3);
  EXPECT_EQ(json["layers"][1]["total_selections"], 0);
  EXPECT_TRUE(json["layers"][1]["shannon_entropy_bits"].is_null());
}

// numpy computed these. 264 of the 400 rows are one and the same warm-up decision: that is where
// the low entropy comes from.
TEST(VllmLog, HasTheMetricsThatNumpyComputes) {
  const auto load = read_expert_load({MOETRACE_VLLM_LOG}, 60);
  ASSERT_TRUE(load) << load.error().message;
  const LayerLoad total = load->total();
  const Metrics metrics = measure(total.counts);
  EXPECT_EQ(total.rows, 400U);
  EXPECT_EQ(load->tokens, 400U);
  EXPECT_EQ(metrics.total_selections, 4U * 400U);
  EXPECT_NEAR(metrics.top_3_share(), 0.51, 1e-12);
  EXPECT_NEAR(*metrics.entropy_bits, 4.105467467832894, 1e-12);
  EXPECT_NEAR(metrics.max_entropy_bits, 5.906890595608519, 1e-12);
}

std::string with_layers(std::string meta, const std::string& layers) {
  return meta.insert(meta.rfind('}'), ",\"layers\":" + layers);
}

// Layer 1 has 3 of 4 experts, and top-1.
std::string mixed_meta(const MetaOptions& options = {}) {
  return with_layers(
      meta(options),
      R"([{"layer":0},{"layer":1,"experts":2,"zero_experts":1,"top_k":1},{"layer":2}])");
}

std::string one_id(int token, const std::string& id) {
  std::string line = route(0, token, 1, "[" + id + "]");
  return line.replace(line.find("[0.5,0.25]"), 10, "[0.5]");
}

TEST_F(ExpertLoadTest, LayersHaveTheirOwnExperts) {
  const auto load = read_expert_load(
      {folder_.write("a", mixed_meta() + route(0, 0, 0, "[3,1]") + one_id(0, "2"))}, std::nullopt);
  ASSERT_TRUE(load) << load.error().message;
  EXPECT_TRUE(load->layers_differ());
  EXPECT_EQ(load->num_experts, 4u);
  EXPECT_EQ(load->layers.at(0).counts, (std::vector<uint64_t>{0, 1, 0, 1}));
  EXPECT_EQ(load->layers.at(1).counts, (std::vector<uint64_t>{0, 0, 1}));
  EXPECT_EQ(load->layers.at(1).top_k, 1u);
  EXPECT_EQ(load->total().counts, (std::vector<uint64_t>{0, 1, 1, 1}));
  const auto json = nlohmann::json::parse(metrics_json(*load));
  EXPECT_EQ(json["layers"][1]["num_experts"], 3);
  EXPECT_DOUBLE_EQ(json["layers"][1]["max_entropy_bits"], std::log2(3));
}

TEST_F(ExpertLoadTest, AFileThatSaysNothingOfALayerAllowsAllIds) {
  const std::string mixed = folder_.write("a", mixed_meta() + one_id(0, "2"));
  const std::string plain = folder_.write("b", meta({.trace_id = "b"}) + route(0, 0, 1, "[3,0]"));
  for (const auto& files : {std::vector{mixed, plain}, std::vector{plain, mixed}}) {
    const auto load = read_expert_load(files, std::nullopt);
    ASSERT_TRUE(load) << load.error().message;
    EXPECT_EQ(load->layers.at(1).counts, (std::vector<uint64_t>{1, 0, 1, 1}));
    EXPECT_EQ(load->layers.at(1).top_k, 2u);
  }
}

}  // namespace
}  // namespace moetrace::plot
