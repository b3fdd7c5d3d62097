// What an engine can say wrong: the verifier warns, and the trace is good.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "trace/verifier_fixture.hpp"

namespace moetrace::trace {
namespace {

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

}  // namespace
}  // namespace moetrace::trace
