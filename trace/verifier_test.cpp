// What the verifier refuses.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "trace/verifier_fixture.hpp"

namespace moetrace::trace {
namespace {

TEST_F(VerifierTest, GoodTraceIsSummedUp) {
  EXPECT_EQ(verdict(), "good");
  EXPECT_EQ(summary_.rows, 6u);
  EXPECT_EQ(summary_.steps, 2u);
  EXPECT_EQ(summary_.requests, 1u);
  EXPECT_EQ(summary_.attempted, 6u);
  EXPECT_EQ(summary_.layers.count(), 2u);
  EXPECT_EQ(summary_.status, "closed");
}

TEST_F(VerifierTest, UnknownTypesAndKeysAreIgnored) {
  insert(4, R"({"type":"weather","sun":true})");
  edit(5, R"("layer":0)", R"("layer":0,"mood":"fine")");
  EXPECT_EQ(verdict(), "good");
}

TEST_F(VerifierTest, WhatTracingCostMayBeUnknown) {
  EXPECT_FALSE(summary_.cost_ns);
  lines_.back() = end_with_cost(R"({"announce_ns":5,"hook_ns":18446744073709551615})");
  EXPECT_EQ(verdict(), "good");
  EXPECT_DOUBLE_EQ(summary_.cost_ns.value(), 0x1p64);
  lines_.back() = end_with_cost(R"({"announce_ns":5,"hook_ns":null,"later":[]})");
  EXPECT_EQ(verdict(), "good");
  EXPECT_FALSE(summary_.cost_ns);
}

TEST_F(VerifierTest, WhatTracingCostMustBeNumbers) {
  for (const char* cost :
       {"null", "7", "{}", R"({"announce_ns":5})", R"({"announce_ns":-5,"hook_ns":1})",
        R"({"announce_ns":5,"hook_ns":"much"})", R"({"announce_ns":5,"hook_ns":1.5})"}) {
    lines_.back() = end_with_cost(cost);
    EXPECT_EQ(blamed(), 12u) << cost;
    EXPECT_TRUE(verdict().find("\"cost\"") != std::string::npos ||
                verdict().find("_ns\" must be a whole number or null") != std::string::npos)
        << verdict();
  }
}

TEST_F(VerifierTest, ARingWasAtMostFull) {
  const std::string end = lines_.back();
  const auto with_ring = [&](const std::string& ring) {
    lines_.back() = end.substr(0, end.size() - 1) + ",\"ring\":" + ring + "}";
  };
  for (const char* ring :
       {R"({"slots":64,"high_water":64})", R"({"slots":1,"high_water":0,"later":[]})"}) {
    with_ring(ring);
    EXPECT_EQ(verdict(), "good") << ring;
  }
  with_ring(R"({"slots":64,"high_water":65})");
  EXPECT_EQ(blamed(), 12u);
  EXPECT_NE(verdict().find(R"("high_water" in "ring" is 65, but the ring has 64 slots)"),
            std::string::npos)
      << verdict();
  for (const char* ring :
       {R"({"slots":0,"high_water":0})", R"({"slots":64})", "null",
        R"({"slots":64,"high_water":-1})", R"({"slots":64,"high_water":null})"}) {
    with_ring(ring);
    EXPECT_EQ(blamed(), 12u) << ring;
  }
}

TEST_F(VerifierTest, MissingRouteIsBlamedOnTheGapNotOnALaterTotal) {
  erase(5);
  EXPECT_EQ(blamed(), 5u);
  EXPECT_NE(verdict().find("seq 1 should come next"), std::string::npos) << verdict();
}

TEST_F(VerifierTest, MissingLastRouteOfAStep) {
  erase(7);
  EXPECT_EQ(blamed(), 7u);
}

TEST_F(VerifierTest, MissingLastRouteOfTheFile) {
  erase(10);
  EXPECT_EQ(blamed(), 11u);
}

TEST_F(VerifierTest, DuplicatedLine) {
  insert(6, lines_[4]);
  EXPECT_EQ(blamed(), 6u);
  EXPECT_NE(verdict().find("does not rise"), std::string::npos);
}

TEST_F(VerifierTest, RoutesOutOfOrder) {
  std::swap(lines_[3], lines_[4]);
  EXPECT_NE(blamed(), 0u);
}

TEST_F(VerifierTest, SameTokenTwiceInALayer) {
  edit(5, R"("token_idx":1)", R"("token_idx":0)");
  EXPECT_EQ(blamed(), 5u);
  EXPECT_NE(verdict().find("twice"), std::string::npos);
}

TEST_F(VerifierTest, TokenOutsideTheStepsRows) {
  edit(7, R"("token_idx":1)", R"("token_idx":7)");
  EXPECT_EQ(blamed(), 7u);
  EXPECT_NE(verdict().find("more than the 2"), std::string::npos);
}

TEST_F(VerifierTest, MoreLayersThanAnnounced) {
  edit(3, R"("layers":2)", R"("layers":1)");
  edit(3, R"("attempted_total":4)", R"("attempted_total":2)");
  EXPECT_EQ(blamed(), 6u);
}

TEST_F(VerifierTest, LayersOfAStepRise) {
  edit(4, R"("layer":0)", R"("layer":1)");
  EXPECT_EQ(blamed(), 5u);
}

TEST_F(VerifierTest, RowOfAnEarlierStep) {
  edit(9, R"("step":1)", R"("step":0)");
  edit(9, R"("token_idx":2)", R"("token_idx":1)");
  EXPECT_EQ(blamed(), 9u);
}

TEST_F(VerifierTest, RowOfAStepThatWasNotAnnounced) {
  edit(9, R"("step":1)", R"("step":9)");
  EXPECT_EQ(blamed(), 9u);
}

TEST_F(VerifierTest, StepNumberDoesNotRise) {
  edit(8, R"("step":1)", R"("step":0)");
  EXPECT_EQ(blamed(), 8u);
}

TEST_F(VerifierTest, EventNumberDoesNotRise) {
  edit(8, R"("event":3)", R"("event":1)");
  EXPECT_EQ(blamed(), 8u);
}

TEST_F(VerifierTest, UnknownRequest) {
  edit(9, R"("request":0)", R"("request":3)");
  EXPECT_EQ(blamed(), 9u);
}

TEST_F(VerifierTest, RequestUnderAnotherName) {
  edit(9, R"("req_id":"r0")", R"("req_id":"r1")");
  EXPECT_EQ(blamed(), 9u);
  lines_[8] = route(2, 0, 1, 4);
  edit(11, R"("req_id":"r0")", R"("req_id":"r1")");
  EXPECT_EQ(blamed(), 11u);
}

TEST_F(VerifierTest, RequestAfterItsEnd) {
  std::swap(lines_[9], lines_[10]);
  EXPECT_EQ(blamed(), 11u);
}

TEST_F(VerifierTest, RequestNumberReused) {
  insert(
      11,
      R"({"type":"request","req_id":"r9","prompt_tokens":2,"cached_tokens":0,"request":0,"event":4})");
  EXPECT_EQ(blamed(), 11u);
}

TEST_F(VerifierTest, EachTotalOfAStepLineCounts) {
  for (const char* key : {"attempted_total\":6", "delivered_total\":4", "dropped_total\":0",
                          "filtered_total\":0", "torn_total\":0", "event_lost_total\":0"}) {
    const std::vector<std::string> good = lines_;
    edit(8, key, std::string(key).substr(0, std::string(key).size() - 1) + "5");
    EXPECT_EQ(blamed(), 8u) << key;
    lines_ = good;
  }
}

TEST_F(VerifierTest, EachTotalOfTheEndLineCounts) {
  for (const char* key :
       {"attempted\":6", "delivered\":6", "dropped\":0", "filtered\":0", "torn\":0"}) {
    const std::vector<std::string> good = lines_;
    edit(12, key, std::string(key).substr(0, std::string(key).size() - 1) + "5");
    EXPECT_EQ(blamed(), 12u) << key;
    lines_ = good;
  }
}

TEST_F(VerifierTest, LineAfterTheEnd) {
  insert(13, R"({"type":"torn","first_seq":null,"count":1})");
  EXPECT_EQ(blamed(), 13u);
}

TEST_F(VerifierTest, NoEndLine) {
  lines_.pop_back();
  EXPECT_NE(verdict().find("no end line"), std::string::npos) << verdict();
}

TEST_F(VerifierTest, TornLastLine) {
  std::string text = join(lines_);
  text.resize(text.size() - 10);
  EXPECT_TRUE(verdict(text).starts_with("the last line is unfinished; no end line"))
      << verdict(text);
  // Whole without its newline.
  text = join(lines_);
  text.pop_back();
  EXPECT_EQ(verdict(text), "good");
  EXPECT_EQ(summary_.left_out, "");
  // After the end.
  EXPECT_EQ(verdict(join(lines_) + "{\"type\":"), "good");
  EXPECT_NE(summary_.left_out.find("line 13 has 8 bytes"), std::string::npos) << summary_.left_out;
}

TEST_F(VerifierTest, SchemaOfEveryLine) {
  edit(9, R"("topk_ids":[1,2])", R"("topk_ids":[1])");
  EXPECT_EQ(blamed(), 9u);
  edit(9, R"("topk_ids":[1])", R"("topk_ids":[1,8])");
  EXPECT_EQ(blamed(), 9u);
  edit(9, R"("topk_ids":[1,8])", R"("topk_ids":[1,2])");
  edit(9, R"(,"seq":4)", "");
  EXPECT_EQ(blamed(), 9u);
}

TEST_F(VerifierTest, DroppedRowsHaveALossLine) {
  // The second row of layer 1 found no room.
  erase(7);
  insert(
      7,
      R"({"type":"loss","dropped":1,"dropped_total":1,"cause":"ring_full","after_seq":2,"event_lost_total":0})");
  lines_[7] = step(1, 1, 2, 3, 3, 6, 3, 1);
  lines_[8] = route(2, 0, 1, 3);
  lines_[9] = route(2, 1, 1, 4);
  lines_[11] = end(6, 5, 0, 1, 0);
  EXPECT_EQ(verdict(), "good");
  EXPECT_EQ(summary_.dropped, 1u);
  edit(7, R"("dropped_total":1)", R"("dropped_total":2)");
  EXPECT_EQ(blamed(), 7u);
  edit(7, R"("dropped_total":2)", R"("dropped_total":1)");
  edit(7, R"("after_seq":2)", R"("after_seq":1)");
  EXPECT_EQ(blamed(), 7u);
}

TEST_F(VerifierTest, LostAnnouncementsCountAsAttempted) {
  insert(
      8,
      R"({"type":"loss","dropped":10,"dropped_total":10,"cause":"event_ring_full","after_seq":3,"event_lost_total":10})");
  lines_[8] = step(6, 1, 2, 4, 3, 16, 4, 10, 0, 0, 10);
  lines_[9] = route(2, 0, 6, 4);
  lines_[10] = route(2, 1, 6, 5);
  lines_[12] = end(16, 6, 0, 10, 0);
  EXPECT_EQ(verdict(), "good");
  lines_[12] = end(6, 6, 0, 10, 0);
  EXPECT_EQ(blamed(), 13u);
}

TEST_F(VerifierTest, TornRowsExplainAGap) {
  erase(5);
  insert(5, R"({"type":"torn","first_seq":1,"count":1})");
  lines_[7] = step(1, 1, 2, 4, 3, 6, 3, 0, 0, 1);
  lines_[11] = end(6, 5, 0, 0, 1);
  EXPECT_EQ(verdict(), "good");
  edit(5, R"("first_seq":1)", R"("first_seq":0)");
  EXPECT_EQ(blamed(), 5u);
}

TEST_F(VerifierTest, FilteredRowsExplainAGap) {
  erase(5);
  lines_[6] = step(1, 1, 2, 4, 3, 6, 3, 0, 1);
  lines_[10] = end(6, 5, 1, 0, 0);
  EXPECT_EQ(verdict(), "good");
  EXPECT_EQ(summary_.filtered, 1u);
}

TEST_F(VerifierTest, NamelessRowsCountAgainstTheStepsRows) {
  const auto nameless = [](int layer, int seq) {
    return R"({"type":"route","req_id":null,"token_idx":null,"layer":)" + std::to_string(layer) +
           R"(,"topk_ids":[1,null],"topk_weights":[0.5,null],"request":null,"step":0,"seq":)" +
           std::to_string(seq) + "}";
  };
  lines_[4] = nameless(0, 1);
  lines_[6] = nameless(1, 3);
  EXPECT_EQ(verdict(), "good");
  lines_[5] = nameless(1, 2);
  EXPECT_EQ(blamed(), 7u);
}

TEST_F(VerifierTest, RowsAtUnknownPositionsCountAgainstTheStepsRows) {
  for (const std::size_t line : {4, 6}) edit(line, R"("token_idx":0)", R"("token_idx":null)");
  EXPECT_EQ(verdict(), "good");
  edit(5, R"("token_idx":1)", R"("token_idx":null)");
  EXPECT_EQ(blamed(), 7u);  // whose position is known, and is a third row
}

TEST_F(VerifierTest, FileThatStartsLate) {
  // Step 0 was announced to an earlier file, which got three of its four rows.
  lines_ = from_the_fourth_row(
      R"({"type":"base","seq":3,"event":3,"step":0,"open":1,"dropped_total":0,"attempted_total":4,"delivered_total":3,"filtered_total":0,"torn_total":0,"event_lost_total":0})");
  EXPECT_EQ(verdict(), "good");
  edit(2, R"("open":1)", R"("open":2)");
  EXPECT_EQ(blamed(), 2u);
  edit(2, R"("open":2)", R"("open":1)");
  insert(5, route(0, 1, 0, 4));
  EXPECT_EQ(blamed(), 5u);
}

TEST_F(VerifierTest, LiveRequestOnlyAfterABase) {
  edit(2, R"("event":0)", R"("event":null)");
  EXPECT_EQ(blamed(), 2u);
}

TEST_F(VerifierTest, ControlLineIsPartOfTheOrder) {
  insert(
      8,
      R"({"type":"control","layers":[0,1],"sample_every":1,"from_step":1,"enabled":true,"event":2})");
  EXPECT_EQ(verdict(), "good");
  edit(8, R"("enabled":true,)", "");
  EXPECT_TRUE(verdict().starts_with("line 8: \"enabled\" must be true or false")) << verdict();
  edit(8, R"("event":2)", R"("enabled":true,"event":1)");
  EXPECT_EQ(blamed(), 8u);
}

TEST_F(VerifierTest, SequenceNumbersDoNotOverflow) {
  // Two gaps that add up to 2^64 would cancel.
  edit(10, R"("seq":5)", R"("seq":18446744073709551615)");
  EXPECT_EQ(blamed(), 10u);
  edit(10, R"("seq":18446744073709551615)", R"("seq":1152921504606846976)");
  EXPECT_EQ(blamed(), 10u);
  EXPECT_NE(verdict().find("only 6 were announced"), std::string::npos) << verdict();
}

TEST_F(VerifierTest, SumsDoNotOverflow) {
  for (
      const char* line :
      {R"({"type":"torn","first_seq":null,"count":18446744073709551615})",
       R"({"type":"torn","first_seq":18446744073709551615,"count":1})",
       R"({"type":"loss","dropped":18446744073709551615,"dropped_total":18446744073709551615,"cause":"event_ring_full","after_seq":5,"event_lost_total":18446744073709551615})",
       R"({"type":"loss","dropped":1,"dropped_total":1,"cause":"ring_full","after_seq":18446744073709551615,"event_lost_total":0})"}) {
    insert(11, line);
    EXPECT_EQ(blamed(), 11u) << line << verdict();
    erase(11);
  }
}

TEST_F(VerifierTest, MoreIsLostThanWasAnnounced) {
  insert(11, R"({"type":"torn","first_seq":null,"count":1})");
  EXPECT_EQ(blamed(), 11u);
}

TEST_F(VerifierTest, EventLostTotal) {
  edit(8, R"("event_lost_total":0)", R"("event_lost_total":1)");
  EXPECT_EQ(blamed(), 8u);
  edit(8, R"(,"event_lost_total":1)", "");
  EXPECT_EQ(blamed(), 8u);
}

TEST_F(VerifierTest, LayersLoggedAreLayersOfTheModel) {
  edit(1, R"("layers_logged":[0,1])", R"("layers_logged":[0,1,2])");
  EXPECT_EQ(blamed(), 1u);
  EXPECT_NE(verdict().find("the model has 2 layers"), std::string::npos) << verdict();
}

TEST_F(VerifierTest, TraceIdIsAUuid) {
  edit(1, "00000000-0000-4000-8000-000000000001", "x");
  EXPECT_EQ(blamed(), 1u);
}

TEST_F(VerifierTest, StatusOfTheEnd) {
  for (const char* status : {"producer died", "bad segment"}) {
    edit(12, "closed", status);
    EXPECT_EQ(verdict(), "good") << status;
    edit(12, status, "closed");
  }
  edit(12, "closed", "finished");
  EXPECT_EQ(blamed(), 12u);
}

}  // namespace
}  // namespace moetrace::trace
