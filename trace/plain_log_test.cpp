// Logs that moetrace did not write: of each row only layer and ids must be there, and meta lines
// may stand anywhere.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "trace/test_files.hpp"
#include "trace/trace_reader.hpp"

namespace moetrace::trace {
namespace {

const std::string kRow =
    R"({"type": "route", "req_id": "r1", "token_idx": 0, "layer": 0, "topk_ids": [3, 0], "topk_weights": [0.5, NaN]})"
    "\n";
const std::string kBareRow = R"({"type": "route", "layer": 2, "topk_ids": [1, 2]})"
                             "\n";
const std::string kTraceMeta =
    R"({"type":"meta","layers_logged":[0,1],"top_k":2,"num_experts":8,"schema":"moetrace/1","trace_id":"t"})"
    "\n";

std::string meta(const std::string& keys) {
  return R"({"type": "meta")" + keys + "}\n";
}

class PlainLogTest : public testing::Test {
 protected:
  // What a log holds; `error` alone if it is wrong, without the file's name.
  struct Log {
    std::string error, remedy;
    std::vector<Route> rows;  // without what points into the reader
    Meta meta;
    std::optional<uint32_t> num_experts;
    uint32_t experts_seen = 0;
  };

  Log read(const std::string& text, std::optional<uint32_t> num_experts = std::nullopt) {
    const std::string path = folder_.write("log.jsonl", text);
    const auto wrong = [&](const Error& error) {
      Log log;
      log.error = error.message.substr(path.size() + 2);
      log.remedy = what_to_try(error);
      return log;
    };
    auto reader = TraceReader::open(path, {.num_experts = num_experts});
    if (!reader) return wrong(reader.error());
    Log log;
    for (;;) {
      const auto line = reader->next();
      if (!line) return wrong(line.error());
      if (*line == nullptr) break;
      const auto& row = std::get<Route>((*line)->content);
      EXPECT_EQ(row.expert_ids.size(), row.weights.size());
      log.rows.push_back({.token_idx = row.token_idx, .layer = row.layer});
    }
    log.meta = reader->meta();
    log.num_experts = reader->num_experts();
    log.experts_seen = reader->experts_seen();
    return log;
  }

  TestFolder folder_;
};

TEST_F(PlainLogTest, NeedsNoMetaLine) {
  const Log log = read(kRow + kBareRow);
  EXPECT_EQ(log.error, "");
  EXPECT_EQ(log.rows.size(), 2U);
  EXPECT_TRUE(log.meta.plain());
  EXPECT_EQ(log.meta.text, "");
  EXPECT_EQ(log.meta.top_k, 2U);
  EXPECT_EQ(log.num_experts, std::nullopt);
  EXPECT_EQ(log.experts_seen, 4U);
  EXPECT_EQ(read(kRow, 60).num_experts, 60U);
}

TEST_F(PlainLogTest, NeedsLayerAndIdsOnly) {
  auto reader = TraceReader::open(folder_.write(
      "log.jsonl",
      kBareRow + R"({"type":"route","layer":0,"topk_ids":[1,null],"topk_weights":null})"));
  ASSERT_TRUE(reader) << reader.error().message;
  for (int row = 0; row < 2; ++row) {
    const auto line = reader->next();
    ASSERT_TRUE(line) << line.error().message;
    const auto& route = std::get<Route>((*line)->content);
    EXPECT_EQ(route.req_id, std::nullopt);
    EXPECT_EQ(route.token_idx, std::nullopt);
    EXPECT_TRUE(std::isnan(route.weights[0]) && std::isnan(route.weights[1]));
  }
  EXPECT_EQ(read(meta("") + R"({"type":"route","topk_ids":[1]})" + "\n").error,
            R"(line 2: missing key "layer")");
  EXPECT_EQ(read(R"({"type":"route","layer":0})"
                 "\n")
                .error,
            R"(line 1: missing key "topk_ids")");
  EXPECT_EQ(read(R"({"type":"route","layer":0,"topk_ids":[]})"
                 "\n")
                .error,
            R"(line 1: "topk_ids" is an empty list)");
  EXPECT_EQ(read(R"({"type":"route","layer":0,"topk_ids":[1],"topk_weights":[1,2]})"
                 "\n")
                .error,
            R"(line 1: "topk_weights" has 2 entries, "topk_ids" 1)");
  EXPECT_EQ(read(kBareRow + R"({"type":"route","layer":0,"topk_ids":[1]})"
                            "\n")
                .error,
            R"(line 2: "topk_ids" has 1 entries, top_k is 2)");
  // A trace has all of them.
  EXPECT_EQ(read(kTraceMeta + kBareRow).error, R"(line 2: missing key "req_id")");
}

TEST_F(PlainLogTest, MetaLinesComeAgainAndLate) {
  const std::string first =
      meta(R"(, "model_id": "m", "layers_logged": [0], "top_k": 2, "seed": 1)");
  const Log again =
      read(first + kRow + first + kRow +
           meta(R"(, "model_id": "m", "layers_logged": [0, 2], "num_experts": 4, "seed": 2)"));
  EXPECT_EQ(again.error, "");
  EXPECT_EQ(again.rows.size(), 2U);
  EXPECT_EQ(again.num_experts, 4U);
  EXPECT_EQ(again.meta.layers_logged, (std::vector<uint16_t>{0, 2}));
  EXPECT_EQ(again.meta.seed, 1);
  EXPECT_EQ(again.meta.text + "\n", first);

  const Log late =
      read(kRow + meta(R"(, "model_id": "m", "top_k": 2, "num_experts": 4, "num_layers": 3)") +
           kBareRow);
  EXPECT_EQ(late.error, "");
  EXPECT_EQ(late.meta.model_id, "m");
  EXPECT_EQ(late.num_experts, 4U);
}

TEST_F(PlainLogTest, MetaLinesMustNotContradict) {
  const std::string first = meta(R"(, "model_id": "a", "top_k": 2, "num_experts": 4)");
  for (const auto& [second, why] : std::vector<std::pair<std::string, std::string>>{
           {R"("model_id": "b")", R"("model_id" is "b", before it was "a")"},
           {R"("top_k": 3)", R"("top_k" is 3, before it was 2)"},
           {R"("num_experts": 8)", R"("num_experts" is 8, before it was 4)"}}) {
    const Log log = read(first + kRow + meta(", " + second));
    EXPECT_EQ(log.error, "line 3: the meta line says " + why);
    EXPECT_EQ(log.remedy, "give each log as a file of its own");
  }
  EXPECT_EQ(
      read(kRow + meta(R"(, "num_experts": 3)")).error,
      R"(line 2: the meta line says "num_experts" is 3, before it was at least 4 in the rows)");
  EXPECT_EQ(
      read(kBareRow + meta(R"(, "num_layers": 2)")).error,
      R"(line 2: the meta line says "num_layers" is 2, before it was at least 3 in the rows)");
  EXPECT_EQ(read(kRow + meta(R"(, "top_k": 3)")).error,
            R"(line 2: the meta line says "top_k" is 3, before it was 2)");
  EXPECT_EQ(read(kRow + meta(R"(, "num_experts": 8)"), 4).error,
            "line 2: the trace has 8 experts, not 4");
  // What a later line says holds for the rows after it.
  EXPECT_EQ(read(meta("") + meta(R"(, "num_experts": 3)") + kRow).error,
            "line 3: expert id 3 is out of range (0 to 2)");
}

TEST_F(PlainLogTest, TracesInOneFile) {
  const std::string row =
      R"({"type":"route","req_id":null,"token_idx":null,"layer":0,"topk_ids":[1,2],"topk_weights":[1,2],"step":0,"seq":0})"
      "\n";
  const std::string own = "give each of them as a file of its own";
  EXPECT_EQ(read(kTraceMeta + row + kTraceMeta).error, "line 3: a second trace begins here");
  EXPECT_EQ(read(kTraceMeta + row + kTraceMeta).remedy, own);
  EXPECT_EQ(read(kRow + kTraceMeta).error, "line 2: a trace begins here, after a plain log");
  EXPECT_EQ(read(kTraceMeta + meta("")).error, "line 2: a plain log begins here, after a trace");
}

// The parts of a trace: one begins like the first, then says where; read alone or put together.
TEST_F(PlainLogTest, PartsOfATrace) {
  const auto end = [](const std::string& status) {
    return R"({"type":"end","attempted":0,"delivered":0,"filtered":0,"dropped":0,"torn":0,"status":")" +
           status + "\"}\n";
  };
  const std::string part =
      R"({"type":"part","part":2,"seq":5,"event":6,"step":null,"open":0,"dropped_total":1,"attempted_total":9})"
      "\n";
  auto reader = TraceReader::open(folder_.write("part.jsonl", kTraceMeta + part));
  ASSERT_TRUE(reader) << reader.error().message;
  const auto line = reader->next();
  ASSERT_TRUE(line) << line.error().message;
  const auto& base = std::get<Base>((*line)->content);
  EXPECT_EQ(base.part, 2U);
  EXPECT_EQ(base.seq, 5U);
  EXPECT_EQ(base.totals.attempted, 9U);

  const auto count = [&](const std::string& text) {
    auto all = TraceReader::open(folder_.write("all.jsonl", text));
    for (int lines = 0;; ++lines) {
      const auto next = all->next();
      if (!next) return next.error().message.substr(folder_.at("all.jsonl").size());
      if (*next == nullptr) return std::to_string(lines);
    }
  };
  EXPECT_EQ(count(kTraceMeta + end("continued") + kTraceMeta + part + end("closed")), "3");
  EXPECT_EQ(count(kTraceMeta + end("closed") + kTraceMeta + part),
            ": line 3: a second trace begins here");
}

}  // namespace
}  // namespace moetrace::trace
