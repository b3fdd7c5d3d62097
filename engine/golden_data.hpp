// For tests: the routing and logits of Hugging Face transformers' Qwen2MoeForCausalLM in float32,
// and the comparison of a model with them. scripts/golden-transformers writes the files.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "engine/files.hpp"
#include "engine/model.hpp"
#include "engine/test_folder.hpp"

namespace moetrace::engine {

inline constexpr float kWeightTolerance = 1e-5f;
inline constexpr float kLogitTolerance = 1e-3f;

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

inline std::vector<GoldenRequest> read_golden(const std::string& name) {
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

// The routing of one layer in a pass; rows of padding may follow.
struct RecordedLayer {
  int64_t layer;
  std::vector<int64_t> ids;
  std::vector<float> weights;
};

// A hook that keeps the routing of a pass.
class RouteRecorder : public RouterHook {
 public:
  // Returns the routing of the latest pass, in the order of the layers.
  virtual std::vector<RecordedLayer> take() = 0;
};

// Feeds the golden tokens (teacher forcing), with all requests in each pass, and compares each row.
inline void expect_golden(const Model& model, const std::vector<GoldenRequest>& requests,
                          const std::vector<int64_t>& moe_layers, RouteRecorder& recorder) {
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
    const auto logits = model.logits(pass, &recorder).value();
    const std::vector<RecordedLayer> layers = recorder.take();
    ASSERT_EQ(layers.size(), moe_layers.size());
    for (size_t row = 0; row < golden_row.size(); ++row) {
      const auto& [request, at] = golden_row[row];
      for (size_t l = 0; l < moe_layers.size(); ++l) {
        ASSERT_EQ(layers[l].layer, moe_layers[l]);
        for (int64_t k = 0; k < request->top_k; ++k) {
          const size_t ours = row * static_cast<size_t>(request->top_k) + static_cast<size_t>(k);
          const auto theirs = static_cast<size_t>(
              (at * request->layers + static_cast<int64_t>(l)) * request->top_k + k);
          ASSERT_EQ(layers[l].ids[ours], request->ids[theirs])
              << "position " << at << " layer " << moe_layers[l];
          worst_weight =
              std::max(worst_weight, std::abs(layers[l].weights[ours] - request->weights[theirs]));
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

inline std::vector<int64_t> count_to(int64_t end) {
  std::vector<int64_t> numbers;
  for (int64_t i = 0; i < end; ++i) numbers.push_back(i);
  return numbers;
}

}  // namespace moetrace::engine
