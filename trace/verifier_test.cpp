#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "trace/verify_files.hpp"

namespace moetrace::trace {
namespace {

std::string join(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

// What verify_trace says about a file with this text.
class VerifierTest : public testing::Test {
 protected:
  ~VerifierTest() override { std::remove(path_.c_str()); }

  std::string verdict(const std::string& text) {
    std::ofstream(path_, std::ios::binary | std::ios::trunc) << text;
    auto summary = verify_trace(path_);
    if (!summary) {
      return summary.error().message.substr(path_.size() + 2) + "; " + what_to_try(summary.error());
    }
    summary_ = *summary;
    if (summary_.warnings.size() > 1) return testing::PrintToString(summary_.warnings);
    return summary_.warnings.empty() ? "good" : summary_.warnings[0].substr(path_.size() + 2);
  }
  std::string verdict() { return verdict(join(lines_)); }

  // The number of the line that is blamed, 0 if none is.
  std::size_t blamed() {
    const std::string why = verdict();
    std::size_t line = 0;
    return std::sscanf(why.c_str(), "line %zu:", &line) == 1 ? line : 0;
  }

  // Replaces the only occurrence in line `number` (from 1).
  void edit(std::size_t number, const std::string& from, const std::string& to) {
    std::string& line = lines_.at(number - 1);
    const std::size_t at = line.find(from);
    ASSERT_NE(at, std::string::npos) << line;
    line.replace(at, from.size(), to);
  }
  void erase(std::size_t number) {
    lines_.erase(lines_.begin() + static_cast<std::ptrdiff_t>(number - 1));
  }
  void insert(std::size_t number, const std::string& line) {
    lines_.insert(lines_.begin() + static_cast<std::ptrdiff_t>(number - 1), line);
  }

  static std::string meta() {
    return R"({"type":"meta","model_id":"m","vllm_version":null,"torch_version":null,"device":"cpu","seed":null,"layers_logged":[0,1],"top_k":2,"num_experts":8,"schema":"moetrace/1","trace_id":"00000000-0000-4000-8000-000000000001","engine":"e","engine_version":null,"num_layers":2,"router":null,"rank":0,"world_size":1,"ranks":{"tp":0,"dp":0,"pp":0,"ep":0},"host":null,"created_at":1.5,"sample_every":1})";
  }
  static std::string route(int token, int layer, int step, int seq, const std::string& id = "r0",
                           int request = 0) {
    return R"({"type":"route","req_id":")" + id + R"(","token_idx":)" + std::to_string(token) +
           R"(,"layer":)" + std::to_string(layer) +
           R"(,"topk_ids":[1,2],"topk_weights":[0.5,0.25],"request":)" + std::to_string(request) +
           R"(,"step":)" + std::to_string(step) + R"(,"seq":)" + std::to_string(seq) + "}";
  }
  static std::string step(int number, int rows, int layers, int seq, int event, int attempted,
                          int delivered, int dropped = 0, int filtered = 0, int torn = 0,
                          int event_lost = 0) {
    const auto n = [](int value) { return std::to_string(value); };
    return R"({"type":"step","step":)" + n(number) + R"(,"rows":)" + n(rows) + R"(,"layers":)" +
           n(layers) + R"(,"time_ns":1,"seq":)" + n(seq) + R"(,"dropped_total":)" + n(dropped) +
           R"(,"event":)" + n(event) + R"(,"attempted_total":)" + n(attempted) +
           R"(,"delivered_total":)" + n(delivered) + R"(,"filtered_total":)" + n(filtered) +
           R"(,"torn_total":)" + n(torn) + R"(,"event_lost_total":)" + n(event_lost) + "}";
  }
  static std::string end(int attempted, int delivered, int filtered, int dropped, int torn) {
    const auto n = [](int value) { return std::to_string(value); };
    return R"({"type":"end","attempted":)" + n(attempted) + R"(,"delivered":)" + n(delivered) +
           R"(,"filtered":)" + n(filtered) + R"(,"dropped":)" + n(dropped) + R"(,"torn":)" +
           n(torn) + R"(,"status":"closed"})";
  }

  static std::string end_with_cost(const std::string& cost) {
    std::string line = end(6, 6, 0, 0, 0);
    return line.insert(line.size() - 1, ",\"cost\":" + cost);
  }

  // A good trace: a prefill of 2 rows and a decode step of 1, in 2 layers.
  std::vector<std::string> lines_ = {
      meta(),  // 1
      R"({"type":"request","req_id":"r0","prompt_tokens":2,"cached_tokens":0,"request":0,"event":0})",  // 2
      step(0, 2, 2, 0, 1, 4, 0),  // 3
      route(0, 0, 0, 0),          // 4
      route(1, 0, 0, 1),          // 5
      route(0, 1, 0, 2),          // 6
      route(1, 1, 0, 3),          // 7
      step(1, 1, 2, 4, 3, 6, 4),  // 8
      route(2, 0, 1, 4),          // 9
      route(2, 1, 1, 5),          // 10
      R"({"type":"request_end","req_id":"r0","generated_tokens":2,"status":"stop","request":0,"event":5})",  // 11
      end(6, 6, 0, 0, 0),  // 12
  };
  std::string path_ = testing::TempDir() + "verifier_" + std::to_string(::getpid()) + ".jsonl";
  TraceSummary summary_;
};

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
    EXPECT_NE(verdict().find("\"cost\" must have"), std::string::npos) << verdict();
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

TEST_F(VerifierTest, RowOfAStepThatNobodyAnnounced) {
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
  EXPECT_TRUE(verdict(text).starts_with("the last line is unfinished, and there is no end line"))
      << verdict(text);
  // Whole without its newline.
  text = join(lines_);
  text.pop_back();
  EXPECT_EQ(verdict(text), "good");
  EXPECT_EQ(summary_.left_out, "");
  // Behind the end.
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
  lines_ = {
      meta(),
      R"({"type":"base","seq":3,"event":3,"step":0,"open":1,"dropped_total":0,"attempted_total":4,"delivered_total":3,"filtered_total":0,"torn_total":0,"event_lost_total":0})",
      R"({"type":"request","req_id":"r0","prompt_tokens":2,"cached_tokens":0,"request":0,"event":null})",
      route(1, 1, 0, 3),
      step(1, 1, 2, 4, 3, 6, 4),
      route(2, 0, 1, 4),
      route(2, 1, 1, 5),
      R"({"type":"request_end","req_id":"r0","generated_tokens":2,"status":"stop","request":0,"event":5})",
      end(3, 3, 0, 0, 0)};
  EXPECT_EQ(verdict(), "good");
  edit(2, R"("open":1)", R"("open":2)");
  EXPECT_EQ(blamed(), 2u);
  edit(2, R"("open":2)", R"("open":1)");
  insert(5, route(0, 1, 0, 4));
  EXPECT_EQ(blamed(), 5u);
}

TEST_F(VerifierTest, LiveRequestOnlyBehindABase) {
  edit(2, R"("event":0)", R"("event":null)");
  EXPECT_EQ(blamed(), 2u);
}

TEST_F(VerifierTest, ControlLineIsPartOfTheOrder) {
  insert(
      8,
      R"({"type":"control","layers":[0,1],"sample_every":1,"from_step":1,"enabled":true,"event":2})");
  EXPECT_EQ(verdict(), "good");
  edit(8, R"("event":2)", R"("event":1)");
  EXPECT_EQ(blamed(), 8u);
}

// ---- numbers that no collector writes

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

// ---- what an engine can say wrong

TEST_F(VerifierTest, RowOfALayerThatIsNotSelected) {
  edit(1, R"("layers_logged":[0,1])", R"("layers_logged":[0])");
  edit(3, R"("layers":2)", R"("layers":2)");
  EXPECT_NE(verdict().find("a row of layer 1, the first of 3; neither"), std::string::npos)
      << verdict();
  edit(1, R"("layers_logged":[0])", R"("layers_logged":[])");
  insert(
      3,
      R"({"type":"control","layers":[0,1],"sample_every":1,"from_step":0,"enabled":true,"event":1})");
  edit(4, R"("event":1)", R"("event":2)");
  EXPECT_EQ(verdict(), "good");
}

TEST_F(VerifierTest, RecordedStepsAreSelected) {
  edit(1, R"("sample_every":1)", R"("sample_every":2)");
  EXPECT_EQ(verdict(),
            "line 8: step 1 is recorded, sample_every is 2; \"layers_logged\", "
            "\"sample_every\" and the control lines before it select fewer rows");
  edit(1, R"("sample_every":2)", R"("sample_every":1)");
  insert(
      8,
      R"({"type":"control","layers":[0,1],"sample_every":1,"from_step":1,"enabled":false,"event":2})");
  EXPECT_NE(verdict().find("step 1 came while tracing was stopped"), std::string::npos);
}

TEST_F(VerifierTest, TimeGoesBack) {
  edit(3, R"("time_ns":1)", R"("time_ns":2)");
  EXPECT_NE(verdict().find("line 8: \"time_ns\" is 1 after 2; "), std::string::npos) << verdict();
}

TEST_F(VerifierTest, ExpertTwiceInARow) {
  for (const std::size_t line : {4, 9}) edit(line, "[1,2]", "[2,2]");
  EXPECT_NE(verdict().find("line 4: expert 2 is in the row twice, the first of 2; "),
            std::string::npos)
      << verdict();
  for (const std::size_t line : {4, 9}) edit(line, "[2,2]", "[null,null]");
  EXPECT_EQ(verdict(), "good");
}

TEST_F(VerifierTest, NegativeWeight) {
  edit(4, "0.5,0.25", "0.5,-0.25");
  EXPECT_NE(verdict().find("line 4: weight -0.25 is negative; "), std::string::npos) << verdict();
}

TEST_F(VerifierTest, GeneratedTokensThatTheRowsContradict) {
  for (const auto& [more, fewer] : {std::pair("\"generated_tokens\":1", "1 generated ones, so 2"),
                                    {"\"generated_tokens\":3", "3 generated ones, so 4"}}) {
    edit(11, R"("generated_tokens":2)", more);
    EXPECT_NE(verdict().find("line 11: request 0 (\"r0\")"), std::string::npos) << verdict();
    EXPECT_NE(verdict().find(fewer), std::string::npos) << verdict();
    edit(11, more, R"("generated_tokens":2)");
  }
  // Without a position in each row nothing contradicts a larger number.
  for (const std::size_t line : {9, 10}) edit(line, R"("token_idx":2)", R"("token_idx":null)");
  edit(11, R"("generated_tokens":2)", R"("generated_tokens":20)");
  EXPECT_EQ(verdict(), "good");
}

TEST_F(VerifierTest, PreemptedRequestsHavePositionsTwice) {
  edit(2, R"("prompt_tokens":2)", R"("prompt_tokens":1)");
  for (const std::size_t line : {9, 10}) edit(line, R"("token_idx":2)", R"("token_idx":1)");
  EXPECT_EQ(verdict(), "good");
}

TEST_F(VerifierTest, MoreCachedTokensThanPrompt) {
  edit(2, R"("cached_tokens":0)", R"("cached_tokens":3)");
  EXPECT_NE(verdict().find("has 3 cached tokens and a prompt of 2"), std::string::npos);
}

TEST_F(VerifierTest, RequestWithoutAnEnd) {
  erase(11);
  EXPECT_EQ(verdict(),
            "request 0 (\"r0\") has no request_end line; the engine closed its trace without "
            "ending it");
  edit(11, "closed", "producer died");
  EXPECT_EQ(verdict(), "good");
}

TEST_F(VerifierTest, StatusOfARequest) {
  edit(11, R"("status":"stop")", R"("status":"melted")");
  EXPECT_NE(verdict().find("line 11: request 0 ends with status \"melted\"; "), std::string::npos);
}

TEST_F(VerifierTest, TraceWithoutASchemaIsNoPlainLog) {
  edit(1, R"("schema":"moetrace/1",)", "");
  EXPECT_NE(verdict().find("stands in a plain log"), std::string::npos) << verdict();
}

// ---- parts of one trace

class PartsTest : public VerifierTest {
 protected:
  ~PartsTest() override {
    for (const std::string& path : files_) std::remove(path.c_str());
  }
  std::string write(const std::vector<std::string>& lines, const std::string& name) {
    files_.push_back(testing::TempDir() + "parts_" + std::to_string(::getpid()) + name);
    std::ofstream(files_.back(), std::ios::binary | std::ios::trunc) << join(lines);
    return files_.back();
  }
  std::string joined() {
    files_ = {write(first_, "1.jsonl"), write(lines_, "2.jsonl")};
    const auto summary = verify_trace(files_);
    if (!summary) {
      return summary.error().message.substr(files_[0].size() + 2) + "; " +
             what_to_try(summary.error());
    }
    summary_ = *summary;
    return summary_.warnings.empty() ? "good" : summary_.warnings.front();
  }
  void make_parts() {
    first_ = {lines_.begin(), lines_.begin() + 6};
    first_.push_back(end(3, 3, 0, 0, 0));
    first_.back().replace(first_.back().find("\"closed\""), 8, "\"continued\",\"open\":1");
    lines_ = {
        meta(),
        R"({"type":"part","part":2,"seq":3,"event":2,"step":0,"open":1,"dropped_total":0,"attempted_total":4,"delivered_total":3,"filtered_total":0,"torn_total":0,"event_lost_total":0})",
        R"({"type":"request","req_id":"r0","prompt_tokens":2,"cached_tokens":0,"request":0,"event":null})",
        route(1, 1, 0, 3),
        step(1, 1, 2, 4, 3, 6, 4),
        route(2, 0, 1, 4),
        route(2, 1, 1, 5),
        R"({"type":"request_end","req_id":"r0","generated_tokens":2,"status":"stop","request":0,"event":5})",
        end(3, 3, 0, 0, 0)};
  }
  std::vector<std::string> first_;
  std::vector<std::string> files_;
};

TEST_F(PartsTest, AreGoodAloneAndTogether) {
  make_parts();
  EXPECT_EQ(verdict(), "good");
  EXPECT_EQ(summary_.status, "closed");
  EXPECT_EQ(verdict(join(first_)), "good");
  EXPECT_EQ(summary_.status, "continued");
  EXPECT_EQ(joined(), "good");
  EXPECT_EQ(summary_.parts, 2u);
  EXPECT_EQ(summary_.rows, 6u);
  EXPECT_EQ(summary_.attempted, 6u);
  EXPECT_EQ(summary_.requests, 1u);
}

TEST_F(PartsTest, JoinWithoutGapOrOverlap) {
  make_parts();
  const std::vector<std::string> good = lines_;
  for (const auto& [from, to] : {std::pair(R"("seq":3)", R"("seq":2)"),
                                 {R"("delivered_total":3)", R"("delivered_total":2)"},
                                 {R"("event":2)", R"("event":1)"},
                                 {R"("step":0)", R"("step":7)"},
                                 {R"("part":2)", R"("part":4)"}}) {
    edit(2, from, to);
    EXPECT_TRUE(joined().starts_with("line 2: ")) << from << joined();
    lines_ = good;
  }
  // A row that the part before has already.
  edit(4, R"("token_idx":1)", R"("token_idx":0)");
  EXPECT_TRUE(joined().starts_with("line 4: ")) << joined();
  lines_ = good;
  edit(3, R"("req_id":"r0")", R"("req_id":"other")");
  EXPECT_TRUE(joined().starts_with("line 3: ")) << joined();
  lines_ = good;
  edit(1, R"("model_id":"m")", R"("model_id":"n")");
  EXPECT_TRUE(joined().starts_with("line 1: ")) << joined();
}

TEST_F(PartsTest, RowsThatAreLeftToTheNextPart) {
  make_parts();
  first_.back().replace(first_.back().find("\"open\":1"), 8, "\"open\":0");
  EXPECT_TRUE(joined().starts_with("line 7: \"open\" must be")) << joined();
}

TEST_F(PartsTest, MissingPart) {
  make_parts();
  edit(2, R"("part":2)", R"("part":3)");
  EXPECT_EQ(joined(),
            "line 2: starts part 3 after part 1; give all parts from the first one of "
            "them to the last");
}

TEST_F(PartsTest, FilesAreGroupedByTraceInTheOrderOfTheirParts) {
  make_parts();
  const std::string second = write(lines_, "2.jsonl");
  const std::string first = write(first_, "1.jsonl");
  lines_ = {meta(), end(0, 0, 0, 0, 0)};
  edit(1, "000001", "000002");
  const std::string other = write(lines_, "other.jsonl");
  const std::vector<std::vector<std::string>> expected = {{first, second}, {other}, {"/nowhere"}};
  EXPECT_EQ(group_parts({second, other, "/nowhere", first}), expected);
  // Copies are looked at one by one.
  EXPECT_EQ(group_parts({first, first}).size(), 2u);
}

TEST_F(VerifierTest, PlainLogs) {
  lines_ = {
      R"({"type": "meta", "model_id": "m", "seed": 1, "layers_logged": [0], "top_k": 2, "created_at": 1.5})",
      R"({"type": "route", "req_id": "r1", "token_idx": 0, "layer": 0, "topk_ids": [1, 2], "topk_weights": [0.5, 0.25]})",
      R"({"type": "route", "req_id": "r1", "token_idx": 0, "layer": 0, "topk_ids": [1, 2], "topk_weights": [0.5, 0.25]})"};
  EXPECT_EQ(verdict(), "good");
  EXPECT_TRUE(summary_.plain);
  EXPECT_EQ(summary_.rows, 2u);
  edit(3, "[1, 2]", "[1, 2, 3]");
  EXPECT_EQ(blamed(), 3u);
}

// A log of another hook may have no meta line; a trace that lost its own is not such a log.
TEST_F(VerifierTest, LogsWithoutAMetaLine) {
  const std::string row = R"({"type": "route", "layer": 0, "topk_ids": [1, 2]})";
  EXPECT_EQ(verdict(row + "\n" + row), "good");
  EXPECT_EQ(summary_.rows, 2u);
  EXPECT_EQ(verdict(row + "\n" + row.substr(0, 30)), "good");
  EXPECT_NE(summary_.left_out.find("line 2 has 30 bytes"), std::string::npos);
  EXPECT_TRUE(
      verdict(row + "\n" + lines_[2] + "\n").starts_with("line 2: is a line of a trace, but"));
  EXPECT_TRUE(verdict(lines_[3] + "\n").starts_with("line 1: is a line of a trace, but"));
}

TEST_F(VerifierTest, AbsentFile) {
  const auto summary = verify_trace("/nowhere/trace.jsonl");
  ASSERT_FALSE(summary);
  EXPECT_EQ(summary.error().code, ErrorCode::kOpen);
}

}  // namespace
}  // namespace moetrace::trace
