// The model compared with Hugging Face transformers' Qwen2MoeForCausalLM in float32: ids and
// weights of every layer's routing, and the logits, over prompts and single tokens. Then generation
// and tracing over that model.
#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "engine/generate.hpp"
#include "engine/golden_data.hpp"
#include "engine/init_model.hpp"
#include "engine/model.hpp"
#include "engine/test_folder.hpp"
#include "engine/tracer.hpp"

namespace moetrace::engine {
namespace {

class HostRecorder final : public RouteRecorder {
 public:
  using RouterHook::routed;
  void routed(int64_t layer, at::Tensor& weights, const at::Tensor& ids) override {
    EXPECT_EQ(weights.scalar_type(), at::kFloat);
    EXPECT_EQ(ids.scalar_type(), at::kLong);
    const auto* id = ids.data_ptr<int64_t>();
    const auto* weight = weights.data_ptr<float>();
    layers_.push_back({layer, {id, id + ids.numel()}, {weight, weight + weights.numel()}});
  }
  std::vector<RecordedLayer> take() override { return std::exchange(layers_, {}); }

 private:
  std::vector<RecordedLayer> layers_;
};

TEST(Golden, RandomModelInFloat32AndBfloat16) {
  const auto golden = read_golden("random_model.golden");
  for (const Dtype dtype : {Dtype::kFloat32, Dtype::kBfloat16}) {
    const TestFolder folder;
    ASSERT_TRUE(init_model(folder.path(), 1234, dtype));
    const auto model = Model::load(folder.path(), Device::kCpu);
    ASSERT_TRUE(model) << model.error().message;
    EXPECT_FALSE((*model)->config().norm_topk_prob);
    HostRecorder recorder;
    expect_golden(**model, golden, count_to(24), recorder);
  }
}

TEST(Golden, SmallModelOfBfloat16ShardsWithADenseLayer) {
  const auto model = Model::load(std::filesystem::path(kTestData) / "small_model", Device::kCpu);
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_TRUE((*model)->config().norm_topk_prob);
  EXPECT_TRUE((*model)->config().tie_word_embeddings);
  EXPECT_EQ((*model)->config().num_kv_heads, 2);
  EXPECT_EQ((*model)->config().rope_theta, 50000.0);
  HostRecorder recorder;
  expect_golden(**model, read_golden("small_model.golden"), {0, 2, 3}, recorder);
}

TEST(Golden, GreedyTokensAreTransformers) {
  const auto golden = read_golden("small_model.golden");
  const auto model = Model::load(std::filesystem::path(kTestData) / "small_model", Device::kCpu);
  ASSERT_TRUE(model);
  std::vector<std::vector<int64_t>> prompts;
  for (const auto& request : golden) {
    prompts.emplace_back(request.tokens.begin(), request.tokens.begin() + request.prompt_tokens);
  }
  for (const int64_t batch : {1, 2, 8}) {
    auto generation =
        Generation::start(**model, prompts, {.max_new_tokens = 8, .batch = batch}, nullptr);
    ASSERT_TRUE(generation);
    while (!generation->finished()) ASSERT_TRUE(generation->step());
    for (size_t r = 0; r < golden.size(); ++r) {
      const std::vector<int64_t> theirs(golden[r].tokens.begin() + golden[r].prompt_tokens,
                                        golden[r].tokens.end());
      const auto& ours = generation->completions()[r].tokens;
      // The golden run ignored end tokens; Generation stops at the first.
      EXPECT_TRUE(std::equal(ours.begin(), ours.end(), theirs.begin()))
          << "request " << r << " batch " << batch;
      EXPECT_TRUE(ours.size() == theirs.size() || ours.back() == 95);
    }
  }
}

TEST(Generation, TheNextPromptEntersWhenOneEndsAndBatchesDontChangeTheText) {
  const auto model = Model::load(std::filesystem::path(kTestData) / "small_model", Device::kCpu);
  ASSERT_TRUE(model);
  std::vector<std::vector<int64_t>> prompts;
  for (int64_t i = 0; i < 7; ++i) prompts.push_back(count_to(3 + 5 * i));
  std::vector<Completion> alone;
  for (const int64_t batch : {1, 3, 7}) {
    auto generation =
        Generation::start(**model, prompts, {.max_new_tokens = 20, .batch = batch}, nullptr);
    ASSERT_TRUE(generation);
    while (!generation->finished()) ASSERT_TRUE(generation->step());
    int64_t tokens = 0;
    for (size_t r = 0; r < prompts.size(); ++r) {
      const Completion& completion = generation->completions()[r];
      tokens += static_cast<int64_t>(completion.tokens.size());
      EXPECT_EQ(completion.req_id, "r" + std::to_string(r));
      EXPECT_EQ(completion.prompt_tokens, static_cast<int64_t>(prompts[r].size()));
      EXPECT_EQ(completion.status, completion.tokens.back() == 95 ? "stop" : "length");
      if (batch != 1) {
        EXPECT_EQ(completion.tokens, alone[r].tokens);
      }
    }
    EXPECT_EQ(tokens, generation->tokens_generated());
    if (batch == 1) alone = generation->completions();
  }
}

TEST(Generation, TracingRecordsEveryRowOfEveryMoeLayerAndChangesNothing) {
  const TestFolder ring;
  const auto model = Model::load(std::filesystem::path(kTestData) / "small_model", Device::kCpu);
  ASSERT_TRUE(model);
  ::setenv("MOETRACE_DIR", ring.path().c_str(), 1);
  ::setenv("MOETRACE_RING_MB", "1", 1);
  const auto tracer = (*model)->open_tracer(1234);
  ASSERT_TRUE(tracer) << tracer.error().message;
  const std::vector<std::vector<int64_t>> prompts = {count_to(10), count_to(4), count_to(21)};
  std::vector<Completion> texts[2];
  for (Tracer* side : {static_cast<Tracer*>(nullptr), tracer->get()}) {
    auto generation = Generation::start(**model, prompts, {.max_new_tokens = 12, .batch = 2}, side);
    ASSERT_TRUE(generation);
    while (!generation->finished()) ASSERT_TRUE(generation->step());
    texts[side != nullptr] = generation->completions();
  }
  uint64_t rows = 0;
  for (size_t r = 0; r < prompts.size(); ++r) {
    EXPECT_EQ(texts[0][r].tokens, texts[1][r].tokens);
    rows += prompts[r].size() + texts[1][r].tokens.size() - 1;
  }
  EXPECT_EQ((*tracer)->totals().recorded, rows * 3);  // three of the four layers are MoE layers
  EXPECT_EQ((*tracer)->totals().dropped, 0u);
}

TEST(Generation, ALayerWithoutExpertsThatIsAskedForIsOneLine) {
  const TestFolder ring;
  const auto model = Model::load(std::filesystem::path(kTestData) / "small_model", Device::kCpu);
  ASSERT_TRUE(model);
  ::setenv("MOETRACE_DIR", ring.path().c_str(), 1);
  ::setenv("MOETRACE_LAYERS", "0-3", 1);
  ::testing::internal::CaptureStderr();
  const auto tracer = (*model)->open_tracer(1234);
  ::unsetenv("MOETRACE_LAYERS");
  const std::string said = ::testing::internal::GetCapturedStderr();
  EXPECT_TRUE(tracer);
  EXPECT_EQ(
      said.rfind("moetrace-engine: MOETRACE_LAYERS '0-3': left out layers without experts", 0), 0u)
      << said;
}

TEST(Generation, MoreLayersThanATraceHoldsAreOneLine) {
  ModelConfig config;
  config.num_layers = 257;
  const auto producer = open_producer(config, 1234, {"cpu", nullptr, -1});
  ASSERT_FALSE(producer);
  EXPECT_EQ(producer.error().message,
            "the model has 257 layers, and a trace holds at most 256; choose a smaller model, or "
            "unset MOETRACE to run without a trace");
}

TEST(Generation, RefusesPromptsThatCantRun) {
  const auto model = Model::load(std::filesystem::path(kTestData) / "small_model", Device::kCpu);
  ASSERT_TRUE(model);
  const std::vector<std::vector<int64_t>> wrong = {{}, {96}, {-1}, std::vector<int64_t>(250, 1)};
  for (const auto& prompt : wrong) {
    const auto generation =
        Generation::start(**model, {{1}, prompt}, {.max_new_tokens = 10, .batch = 2}, nullptr);
    ASSERT_FALSE(generation);
    EXPECT_EQ(generation.error().code, ErrorCode::kBadPrompt);
    EXPECT_EQ(generation.error().message.rfind("prompt 1: ", 0), 0u) << generation.error().message;
  }
  const auto why = [&](size_t tokens) {
    return Generation::start(**model, {std::vector<int64_t>(tokens, 1)}, {.max_new_tokens = 10},
                             nullptr)
        .error()
        .message;
  };
  EXPECT_EQ(why(250),
            "prompt 0: 250 tokens plus 10 new ones exceed the model's 256 positions; use "
            "--max-new-tokens 6 or less");
  EXPECT_EQ(why(300),
            "prompt 0: 300 tokens plus 10 new ones exceed the model's 256 positions; shorten the "
            "prompt");
}

}  // namespace
}  // namespace moetrace::engine
