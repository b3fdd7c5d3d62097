// The model against Hugging Face transformers' own float32 Qwen2MoeForCausalLM: ids and weights of
// every layer's routing, and the logits, over prompts and single tokens. The golden files come from
// scripts/golden-transformers.
#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

#include "producer/engine/files.hpp"
#include "producer/engine/generate.hpp"
#include "producer/engine/init_model.hpp"
#include "producer/engine/model.hpp"
#include "producer/engine/test_folder.hpp"
#include "producer/engine/tracing.hpp"

namespace moetrace::engine {
namespace {

constexpr float kWeightTolerance = 1e-5f;
constexpr float kLogitTolerance = 1e-3f;

struct GoldenRequest {
  std::vector<int64_t> tokens;
  int64_t prompt_tokens = 0;
  int64_t layers = 0, top_k = 0, vocab = 0;
  std::vector<uint8_t> ids;    // [rows, layers, top_k]
  std::vector<float> weights;  // the same
  std::vector<float> logits;   // [rows, vocab]
  int64_t rows() const { return static_cast<int64_t>(tokens.size()) - 1; }
};

template <class T>
std::vector<T> take(const std::string& bytes, size_t& at, int64_t count) {
  std::vector<T> values(static_cast<size_t>(count));
  EXPECT_LE(at + values.size() * sizeof(T), bytes.size());
  std::memcpy(values.data(), bytes.data() + at, values.size() * sizeof(T));
  at += values.size() * sizeof(T);
  return values;
}

std::vector<GoldenRequest> read_golden(const std::string& name) {
  const std::string bytes = read_file(std::filesystem::path(kTestData) / name).value();
  size_t at = 0;
  const auto length = static_cast<int64_t>(take<uint64_t>(bytes, at, 1).front());
  const auto text = take<char>(bytes, at, length);
  std::vector<GoldenRequest> requests;
  const auto header = nlohmann::json::parse(text.begin(), text.end());
  for (const auto& entry : header.at("requests")) {
    GoldenRequest request;
    request.tokens = entry.at("tokens").get<std::vector<int64_t>>();
    request.prompt_tokens = entry.at("prompt_tokens");
    request.layers = entry.at("layers");
    request.top_k = entry.at("top_k");
    request.vocab = entry.at("vocab");
    const int64_t picks = request.rows() * request.layers * request.top_k;
    request.ids = take<uint8_t>(bytes, at, picks);
    request.weights = take<float>(bytes, at, picks);
    request.logits = take<float>(bytes, at, request.rows() * request.vocab);
    requests.push_back(std::move(request));
  }
  EXPECT_EQ(at, bytes.size());
  EXPECT_FALSE(requests.empty());
  return requests;
}

// Keeps what the router of each layer said in one pass.
struct Recorder final : RouterHook {
  struct Layer {
    int64_t layer;
    std::vector<int64_t> ids;
    std::vector<float> weights;
  };
  std::vector<Layer> layers;

  using RouterHook::routed;
  void routed(int64_t layer, at::Tensor& weights, const at::Tensor& ids) override {
    EXPECT_EQ(weights.scalar_type(), at::kFloat);
    EXPECT_EQ(ids.scalar_type(), at::kLong);
    const auto* id = ids.data_ptr<int64_t>();
    const auto* weight = weights.data_ptr<float>();
    layers.push_back({layer, {id, id + ids.numel()}, {weight, weight + weights.numel()}});
  }
};

// Feeds the golden tokens (teacher forcing), all requests in every pass, and compares each row.
void expect_golden(const Model& model, const std::vector<GoldenRequest>& requests,
                   const std::vector<int64_t>& moe_layers) {
  std::vector<std::shared_ptr<KvCache>> caches;
  std::vector<int64_t> position(requests.size());
  for (const auto& request : requests) caches.push_back(model.new_cache(request.rows()).value());
  float worst_weight = 0;
  float worst_logit = 0;
  for (;;) {
    Pass pass;
    std::vector<std::pair<const GoldenRequest*, int64_t>> golden_row;
    for (size_t r = 0; r < requests.size(); ++r) {
      if (position[r] == requests[r].rows()) continue;
      const int64_t end = position[r] == 0 ? requests[r].prompt_tokens : position[r] + 1;
      pass.spans.push_back({caches[r].get(), position[r], end - position[r]});
      for (; position[r] < end; ++position[r]) {
        pass.tokens.push_back(requests[r].tokens[static_cast<size_t>(position[r])]);
        golden_row.emplace_back(&requests[r], position[r]);
      }
    }
    if (pass.tokens.empty()) break;
    Recorder recorder;
    const auto logits = model.logits(pass, &recorder).value();
    ASSERT_EQ(recorder.layers.size(), moe_layers.size());
    for (size_t row = 0; row < golden_row.size(); ++row) {
      const auto& [request, at] = golden_row[row];
      for (size_t l = 0; l < moe_layers.size(); ++l) {
        ASSERT_EQ(recorder.layers[l].layer, moe_layers[l]);
        for (int64_t k = 0; k < request->top_k; ++k) {
          const size_t ours = row * static_cast<size_t>(request->top_k) + static_cast<size_t>(k);
          const auto theirs = static_cast<size_t>(
              (at * request->layers + static_cast<int64_t>(l)) * request->top_k + k);
          ASSERT_EQ(recorder.layers[l].ids[ours], request->ids[theirs])
              << "position " << at << " layer " << moe_layers[l];
          worst_weight = std::max(
              worst_weight, std::abs(recorder.layers[l].weights[ours] - request->weights[theirs]));
        }
      }
      for (int64_t v = 0; v < request->vocab; ++v) {
        const float ours =
            logits[row * static_cast<size_t>(request->vocab) + static_cast<size_t>(v)];
        worst_logit = std::max(
            worst_logit,
            std::abs(ours - request->logits[static_cast<size_t>(at * request->vocab + v)]));
      }
    }
  }
  ::testing::Test::RecordProperty("worst_weight", std::to_string(worst_weight));
  ::testing::Test::RecordProperty("worst_logit", std::to_string(worst_logit));
  EXPECT_LE(worst_weight, kWeightTolerance);
  EXPECT_LE(worst_logit, kLogitTolerance);
}

std::vector<int64_t> count_to(int64_t end) {
  std::vector<int64_t> numbers;
  for (int64_t i = 0; i < end; ++i) numbers.push_back(i);
  return numbers;
}

TEST(Golden, RandomModelInFloat32AndBfloat16) {
  const auto golden = read_golden("random_model.golden");
  for (const Dtype dtype : {Dtype::kFloat32, Dtype::kBfloat16}) {
    const TestFolder folder;
    ASSERT_TRUE(init_model(folder.path(), 1234, dtype));
    const auto model = Model::load(folder.path(), Device::kCpu);
    ASSERT_TRUE(model) << model.error().message;
    EXPECT_FALSE((*model)->config().norm_topk_prob);
    expect_golden(**model, golden, count_to(24));
  }
}

TEST(Golden, SmallModelOfBfloat16ShardsWithADenseLayer) {
  const auto model = Model::load(std::filesystem::path(kTestData) / "small_model", Device::kCpu);
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_TRUE((*model)->config().norm_topk_prob);
  EXPECT_TRUE((*model)->config().tie_word_embeddings);
  EXPECT_EQ((*model)->config().num_kv_heads, 2);
  EXPECT_EQ((*model)->config().rope_theta, 50000.0);
  expect_golden(**model, read_golden("small_model.golden"), {0, 2, 3});
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
      // Hugging Face's run ignored end tokens; ours stops at the first.
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
}

}  // namespace
}  // namespace moetrace::engine
