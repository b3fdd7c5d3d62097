#include "daemon/cli/replay_steps.hpp"

#include <gtest/gtest.h>

#include <string>
#include <tuple>
#include <vector>

namespace moetrace::cli {
namespace {

// A row of a file: request ('.': none), position, layer. Its only expert id is its index in the
// file.
using FileRow = std::tuple<char, std::uint64_t, std::uint16_t>;

// The steps as text: "[0,1] a0+2 b5+1" is a step in layers 0 and 1 with two spans.
class ReplayStepsTest : public testing::Test {
 protected:
  std::vector<std::string> group(const std::vector<FileRow>& rows, bool plain = false,
                                 std::uint32_t max_rows = 1000, std::size_t max_spans = 1000) {
    ReplaySteps steps({max_rows, max_spans, plain}, [&](const ReplayStep& batch) { take(batch); });
    std::uint16_t number = 0;
    for (const auto& [request, position, layer] : rows) {
      RowKey key;
      if (request != '.') key = {static_cast<std::uint64_t>(request), position};
      const std::uint16_t id = number++;
      const float weight = 0.5F + static_cast<float>(id);
      steps.add(key, layer, {&id, 1}, {&weight, 1});
    }
    steps.finish_step();
    // Always: every row comes out once, in the file's order, with its id and weight.
    EXPECT_EQ(ids_.size(), rows.size());
    for (std::size_t n = 0; n < ids_.size(); ++n) {
      EXPECT_EQ(ids_[n], n);
      EXPECT_EQ(weights_[n], 0.5F + static_cast<float>(n));
      EXPECT_EQ(row_layers_[n], std::get<2>(rows[n]));
    }
    return steps_;
  }

 private:
  void take(const ReplayStep& batch) {
    std::string text = "[";
    for (const std::uint16_t layer : batch.layers)
      text += (text.size() > 1 ? "," : "") + std::to_string(layer);
    text += "]";
    std::uint32_t named = 0;
    for (const moetrace_span& span : batch.spans) {
      text +=
          std::string(" ") + static_cast<char>(span.request) +
          (span.first_position == MOETRACE_UNKNOWN_POSITION ? "?"
                                                            : std::to_string(span.first_position)) +
          "+" + std::to_string(span.rows);
      named += span.rows;
    }
    if (batch.rows > named) text += " ." + std::to_string(batch.rows - named);
    steps_.push_back(text);
    EXPECT_EQ(batch.ids.size(), batch.layers.size() * batch.rows);
    ids_.insert(ids_.end(), batch.ids.begin(), batch.ids.end());
    weights_.insert(weights_.end(), batch.weights.begin(), batch.weights.end());
    for (const std::uint16_t layer : batch.layers)
      row_layers_.insert(row_layers_.end(), batch.rows, layer);
  }

  std::vector<std::string> steps_;
  std::vector<std::uint32_t> ids_;
  std::vector<float> weights_;
  std::vector<std::uint16_t> row_layers_;
};

using Steps = std::vector<std::string>;

TEST_F(ReplayStepsTest, LayersWithTheSameRowsAreOneStep) {
  EXPECT_EQ(group({{'a', 0, 0}, {'a', 1, 0}, {'b', 5, 0}, {'a', 0, 3}, {'a', 1, 3}, {'b', 5, 3}}),
            Steps{"[0,3] a0+2 b5+1"});
}

TEST_F(ReplayStepsTest, SpansAreMaximalRunsOfConsecutivePositions) {
  EXPECT_EQ(group({{'a', 0, 0}, {'a', 1, 0}, {'a', 3, 0}, {'.', 0, 0}, {'a', 4, 0}}),
            Steps{"[0] a0+2 a3+1 a4+1 .1"});
}

TEST_F(ReplayStepsTest, DroppedTailOfALayerSplitsTheStep) {
  // Layer 1 lacks its last row, layer 2 is complete: its first row still joins the step of layer 1.
  EXPECT_EQ(group({{'a', 0, 0}, {'a', 1, 0}, {'a', 0, 1}, {'a', 0, 2}, {'a', 1, 2}}),
            (Steps{"[0] a0+2", "[1,2] a0+1", "[2] a1+1"}));
}

TEST_F(ReplayStepsTest, LayersThatLackTheSameRowsStayTogether) {
  EXPECT_EQ(group({{'a', 0, 0}, {'a', 1, 0}, {'a', 0, 1}, {'a', 0, 2}}),
            (Steps{"[0] a0+2", "[1,2] a0+1"}));
}

TEST_F(ReplayStepsTest, PartialLastLayer) {
  EXPECT_EQ(group({{'a', 0, 0}, {'a', 1, 0}, {'a', 0, 1}}), (Steps{"[0] a0+2", "[1] a0+1"}));
}

TEST_F(ReplayStepsTest, ALayerWithMoreRowsThanTheFirst) {
  EXPECT_EQ(group({{'a', 0, 0}, {'a', 0, 1}, {'a', 1, 1}}), (Steps{"[0,1] a0+1", "[1] a1+1"}));
}

TEST_F(ReplayStepsTest, OtherOrderInALaterLayer) {
  EXPECT_EQ(group({{'a', 0, 0}, {'b', 0, 0}, {'b', 0, 1}, {'a', 0, 1}}),
            (Steps{"[0] a0+1 b0+1", "[1] b0+1 a0+1"}));
}

TEST_F(ReplayStepsTest, LayersThatFallStartAStep) {
  EXPECT_EQ(group({{'a', 0, 0}, {'a', 0, 1}, {'a', 1, 0}, {'a', 1, 1}}),
            (Steps{"[0,1] a0+1", "[0,1] a1+1"}));
}

TEST_F(ReplayStepsTest, InPlainLogsAFallingPositionStartsAStep) {
  EXPECT_EQ(group({{'a', 0, 0}, {'a', 1, 0}, {'a', 0, 0}}, true), (Steps{"[0] a0+2", "[0] a0+1"}));
}

TEST_F(ReplayStepsTest, InPlainLogsTheSameTokenAgainStartsAStep) {
  EXPECT_EQ(group({{'a', 7, 0}, {'b', 3, 0}, {'a', 7, 0}}, true),
            (Steps{"[0] a7+1 b3+1", "[0] a7+1"}));
}

TEST_F(ReplayStepsTest, InPlainLogsTheNextRequestMayStartLower) {
  EXPECT_EQ(group({{'a', 7, 0}, {'b', 0, 0}, {'a', 8, 0}}, true), Steps{"[0] a7+1 b0+1 a8+1"});
}

TEST_F(ReplayStepsTest, UnknownPositionsAreOneSpanAndFallNowhere) {
  constexpr auto kUnknown = MOETRACE_UNKNOWN_POSITION;
  EXPECT_EQ(group({{'a', kUnknown, 0}, {'a', kUnknown, 0}, {'b', kUnknown, 0}, {'a', 0, 0}}, true),
            Steps{"[0] a?+2 b?+1 a0+1"});
}

TEST_F(ReplayStepsTest, InTracesAFallingPositionStartsNoStep) {
  // Thread blocks of a GPU may record in any order.
  EXPECT_EQ(group({{'a', 1, 0}, {'a', 0, 0}}), Steps{"[0] a1+1 a0+1"});
}

TEST_F(ReplayStepsTest, StepsThatAreTooLargeAreCut) {
  EXPECT_EQ(group({{'a', 0, 0}, {'a', 1, 0}, {'a', 2, 0}, {'a', 0, 1}, {'a', 1, 1}, {'a', 2, 1}},
                  false, 2),
            (Steps{"[0] a0+2", "[0] a2+1", "[1] a0+2", "[1] a2+1"}));
}

TEST_F(ReplayStepsTest, SpansAreCutToo) {
  EXPECT_EQ(group({{'a', 0, 0}, {'b', 0, 0}, {'c', 0, 0}}, false, 100, 2),
            (Steps{"[0] a0+1 b0+1", "[0] c0+1"}));
}

// Layer 1 has twice as many ids as layer 0. The second pass lacks a row of layer 1.
TEST(ReplaySteps, LayersMayHaveDifferentTopK) {
  std::vector<std::vector<std::uint16_t>> layers;
  std::vector<std::vector<std::uint32_t>> ids;
  ReplaySteps steps({1000, 1000, false}, [&](const ReplayStep& batch) {
    layers.emplace_back(batch.layers.begin(), batch.layers.end());
    ids.emplace_back(batch.ids.begin(), batch.ids.end());
    EXPECT_EQ(batch.weights.size(), batch.ids.size());
  });
  std::uint16_t number = 0;
  const auto add = [&](std::uint64_t position, std::uint16_t layer) {
    std::vector<std::uint16_t> row;
    for (int k = 0; k <= layer; ++k) row.push_back(number++);
    const std::vector<float> weights(row.size(), 0.5F);
    steps.add({1, position}, layer, row, weights);
  };
  for (const std::uint16_t layer : {0, 1}) {
    for (const std::uint64_t position : {0, 1}) add(position, layer);
  }
  steps.finish_step();
  add(2, 0);
  add(3, 0);
  add(2, 1);
  steps.finish_step();
  EXPECT_EQ(layers, (std::vector<std::vector<std::uint16_t>>{{0, 1}, {0}, {1}}));
  EXPECT_EQ(ids, (std::vector<std::vector<std::uint32_t>>{{0, 1, 2, 3, 4, 5}, {6, 7}, {8, 9}}));
}

}  // namespace
}  // namespace moetrace::cli
