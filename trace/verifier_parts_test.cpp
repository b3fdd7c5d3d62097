// Traces in several files, and plain logs.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "trace/verifier_fixture.hpp"

namespace moetrace::trace {
namespace {

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
    lines_ = from_the_fourth_row(
        R"({"type":"part","part":2,"seq":3,"event":2,"step":0,"open":1,"dropped_total":0,"attempted_total":4,"delivered_total":3,"filtered_total":0,"torn_total":0,"event_lost_total":0})");
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
  EXPECT_EQ(summary_.first_part, 1u);
}

TEST_F(PartsTest, SaysWhatIsBeforeTheFirstOne) {
  make_parts();
  EXPECT_EQ(verdict(), "good");
  EXPECT_EQ(summary_.first_part, 2u);
  EXPECT_EQ(summary_.rows_before, 3u);
  EXPECT_EQ(summary_.rows, 3u);
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
