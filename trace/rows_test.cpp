// Rows as Arrow: all that is read of two files is as of one.
#include <gtest/gtest.h>

#include <sstream>

#include "trace/rows_fixture.hpp"
#include "trace/trace_reader.hpp"
#include "trace/verifier_fixture.hpp"

namespace moetrace::trace {
namespace {

std::string text(std::optional<std::uint64_t> value) {
  return value ? std::to_string(*value) : "null";
}

// What a reader gives, row by row and line by line; of lines only their types and numbers.
std::string said(const Content& content) {
  std::ostringstream out;
  if (const auto* row = std::get_if<Route>(&content)) {
    out << "route " << row->req_id.value_or("null") << " " << text(row->token_idx) << " "
        << row->layer << " " << text(row->request) << " " << text(row->step) << " "
        << text(row->seq);
    for (const auto id : row->expert_ids) out << " " << id;
    for (const auto weight : row->weights) out << " " << weight;
  } else if (const auto* step = std::get_if<Step>(&content)) {
    out << "step " << step->step;
  } else if (const auto* request = std::get_if<Request>(&content)) {
    out << "request " << request->request;
  } else {
    out << "line of kind " << content.index();
  }
  return out.str();
}

class RowsTest : public VerifierTest {
 protected:
  TestFolder folder_;

  void put(std::string_view name, std::string_view bytes) { (void)folder_.write(name, bytes); }
  void write(const TwoFiles& files) {
    put("t.jsonl", files.lines);
    put("t.arrows", files.rows);
  }

  // Up to the end or an error, which is the last: "error: …" without the folder's name.
  std::vector<std::string> read(const std::string& name, const ReadOptions& options = {}) {
    std::vector<std::string> all;
    auto reader = TraceReader::open(folder_.at(name), options);
    if (!reader) return {error_text(reader.error())};
    for (;;) {
      const auto next = reader->next();
      if (!next) all.push_back(error_text(next.error()));
      if (!next || *next == nullptr) break;
      if (std::holds_alternative<RowsWritten>((*next)->content)) continue;
      all.push_back(said((*next)->content));
    }
    if (!reader->left_out().empty()) all.push_back("left out");
    return all;
  }

  std::string error_text(const Error& error) {
    std::string message = error.message;
    for (std::size_t at = 0; (at = message.find(folder_.at(""))) != std::string::npos;) {
      message.erase(at, folder_.at("").size());
    }
    return "error: " + message;
  }

  std::vector<std::string> in_one_file() {
    put("one.jsonl", join(lines_));
    return read("one.jsonl");
  }

  std::string verified(const std::string& name) {
    const auto summary = verify_trace(folder_.at(name));
    if (!summary) return error_text(summary.error());
    return "good: " + std::to_string(summary->rows) + " rows" +
           (summary->warnings.empty() ? "" : testing::PrintToString(summary->warnings));
  }

  // The last element that was read, or the first that begins with "error".
  std::string error_of(const TwoFiles& files) {
    write(files);
    const auto all = read("t.jsonl");
    return all.empty() ? "" : all.back();
  }
};

TEST_F(RowsTest, RowsStandBetweenTheLinesAsInOneFile) {
  const auto expected = in_one_file();
  for (const std::size_t rows_a_batch : {1U, 2U, 3U, 100U}) {
    for (const auto body : {StoredBody::kPlain, StoredBody::kLz4, StoredBody::kZstd}) {
      for (const auto weights : {StoredWeights::kFloat16, StoredWeights::kFloat32}) {
        for (const bool wide : {false, true}) {
          write(split(lines_, {rows_a_batch, weights, body, wide}));
          EXPECT_EQ(read("t.jsonl"), expected);
          EXPECT_EQ(read("t.arrows"), expected);  // the other file is found
          EXPECT_EQ(verified("t.jsonl"), "good: 6 rows");
        }
      }
    }
  }
}

TEST_F(RowsTest, GoldenFilesAreReadAsTheSameTrace) {
  const auto copy = [this](const std::string& name) {
    put(name, read_bytes(MOETRACE_GOLDEN_DIR "/../rows/" + name));
  };
  copy("one.jsonl");
  const auto expected = read("one.jsonl");
  ASSERT_GT(expected.size(), 20U);
  for (const std::string name : {"trace", "half"}) {
    copy(name + ".jsonl");
    copy(name + ".arrows");
    EXPECT_EQ(read(name + ".jsonl"), expected);
    EXPECT_EQ(verified(name + ".jsonl"), "good: 11 rows");
  }
}

TEST_F(RowsTest, NullsAndTwoByteIdsAreRead) {
  edit(1, "\"num_experts\":8", "\"num_experts\":60000");
  edit(4, "[1,2]", "[59999,null]");
  edit(4, "[0.5,0.25]", "[-0.5,null]");
  edit(5, "\"token_idx\":1", "\"token_idx\":null");
  edit(6, "\"req_id\":\"r0\"", "\"req_id\":null");
  edit(6, "\"request\":0", "\"request\":null");
  const auto expected = in_one_file();
  for (const auto weights : {StoredWeights::kFloat16, StoredWeights::kFloat32}) {
    write(split(lines_, {.weights = weights}));
    EXPECT_EQ(read("t.jsonl"), expected);
  }
}

TEST_F(RowsTest, LayersMayDiffer) {
  const std::string rest =
      R"("score":null,"renormalized":null,"scaling":null,"biased":null,"groups":null,"topk_groups":null,"table":null})";
  edit(
      1, "\"sample_every\":1",
      R"("sample_every":1,"engine_id":null,"layers":[{"layer":0,"experts":null,"zero_experts":0,"top_k":2,)" +
          rest + R"(,{"layer":1,"experts":4,"zero_experts":0,"top_k":1,)" + rest + "]");
  for (const std::size_t line : {6U, 7U, 10U}) {
    edit(line, "[1,2]", "[1]");
    edit(line, "[0.5,0.25]", "[0.5]");
  }
  const auto expected = in_one_file();
  EXPECT_EQ(verified("one.jsonl"), "good: 6 rows");
  write(split(lines_));
  EXPECT_EQ(read("t.jsonl"), expected);
  EXPECT_EQ(verified("t.jsonl"), "good: 6 rows");
  edit(7, "[1]", "[4]");
  write(split(lines_));
  EXPECT_NE(read("t.jsonl").back().find("the layer has a top-1 of 4"), std::string::npos);
}

TEST_F(RowsTest, WeightsThatAreNotStoredAreUnknown) {
  write(split(lines_, {.weights = StoredWeights::kNone}));
  EXPECT_EQ(read("t.jsonl").at(2), "route r0 0 0 0 0 0 1 2 nan nan");
}

TEST_F(RowsTest, HalvesAreReadAsTheFloatsThatTheyAre) {
  for (const float weight : {0.0F, 0x1p-24F, 0x3FFp-24F, 0x1p-14F, 65504.0F, -1.5F, 0x0.AA8p-1F}) {
    lines_[3] = route(0, 0, 0, 0);
    edit(4, "0.5", nlohmann::json(weight).dump());
    write(split(lines_, {.weights = StoredWeights::kFloat16}));
    auto reader = TraceReader::open(folder_.at("t.jsonl"));
    reader->next().value();
    reader->next().value();
    const Line* row = reader->next().value();
    EXPECT_EQ(std::get<Route>(row->content).weights[0], weight);
  }
}

TEST_F(RowsTest, RunsHaveTheSameRows) {
  write(split(lines_, {.rows_a_batch = 3}));
  auto reader = TraceReader::open(folder_.at("t.jsonl"), {.num_experts = {}, .runs = true});
  std::vector<std::size_t> sizes;
  std::vector<std::int64_t> seqs;
  for (const Line* line = nullptr; (line = reader->next().value()) != nullptr;) {
    EXPECT_FALSE(std::holds_alternative<Route>(line->content));
    if (const auto* run = std::get_if<RowRun>(&line->content)) {
      sizes.push_back(run->size());
      for (const auto seq : run->seq) seqs.push_back(seq);
      EXPECT_EQ(run->expert_ids.size(), 2 * run->size());
    }
  }
  EXPECT_EQ(sizes, (std::vector<std::size_t>{3, 1, 2}));  // the second batch holds a step line
  EXPECT_EQ(seqs, (std::vector<std::int64_t>{0, 1, 2, 3, 4, 5}));
}

TEST_F(RowsTest, FilteredAndTornRowsLeaveGaps) {
  lines_ = {meta(),
            lines_[1],
            step(0, 2, 2, 0, 1, 4, 0),
            route(0, 0, 0, 1),
            step(1, 1, 2, 4, 3, 6, 1, 0, 3),
            R"({"type":"torn","first_seq":4,"count":1})",
            route(2, 1, 1, 5),
            lines_[10],
            end(6, 2, 3, 0, 1)};
  const auto expected = in_one_file();
  EXPECT_EQ(verified("one.jsonl"), "good: 2 rows");
  for (const std::size_t rows_a_batch : {1U, 2U}) {
    // What is written at the second step is only a line: all rows were filtered.
    for (const bool write_at_steps : {false, true}) {
      write(split(lines_, {.rows_a_batch = rows_a_batch, .write_at_steps = write_at_steps}));
      EXPECT_EQ(read("t.jsonl"), expected);
      EXPECT_EQ(verified("t.jsonl"), "good: 2 rows");
    }
  }
}

TEST_F(RowsTest, PartsAreVerifiedTogether) {
  std::vector<std::string> first(lines_.begin(), lines_.begin() + 6);
  first.push_back(
      R"({"type":"end","attempted":3,"delivered":3,"filtered":0,"dropped":0,"torn":0,"status":"continued","open":1})");
  auto rest = from_the_fourth_row(
      R"({"type":"part","part":2,"seq":3,"event":2,"step":0,"open":1,"dropped_total":0,"attempted_total":4,"delivered_total":3,"filtered_total":0,"torn_total":0,"event_lost_total":0})");
  write(split(first));
  const TwoFiles second = split(rest, {.wide = true, .file = "u.arrows"});
  put("u.jsonl", second.lines);
  put("u.arrows", second.rows);
  const auto summary = verify_trace({folder_.at("t.jsonl"), folder_.at("u.jsonl")});
  ASSERT_TRUE(summary) << summary.error().message;
  EXPECT_EQ(summary->rows, 6U);
  EXPECT_EQ(verified("u.arrows"), "good: 3 rows");

  // One in the other's place.
  put("u.arrows", read_bytes(folder_.at("t.arrows")));
  EXPECT_NE(verified("u.jsonl").find("\"wide\" of the meta line"), std::string::npos);
  put("u.arrows", split(first, {.wide = true}).rows);
  EXPECT_NE(verified("u.jsonl").find("is part 1 of the trace, its lines are part 2"),
            std::string::npos);
}

TEST_F(RowsTest, ARowsFileOfAnotherTraceIsRefused) {
  TwoFiles files = split(lines_);
  edit(1, "000000000001", "000000000002");
  files.rows = split(lines_).rows;
  EXPECT_NE(error_of(files).find("its rows are not those of the lines"), std::string::npos);
}

TEST_F(RowsTest, TheRowsFileIsFoundUnderTheNameOfTheLines) {
  const TwoFiles files = split(lines_, {.file = "renamed.arrows"});
  write(files);
  EXPECT_EQ(read("t.jsonl"), in_one_file());
  // A pair that was renamed, beside a part that has the old names.
  put("t.jsonl.1", files.lines);
  put("t.arrows.1", files.rows);
  put("t.arrows", "another part's");
  put("renamed.arrows", "another part's");
  EXPECT_EQ(read("t.jsonl.1"), in_one_file());
  EXPECT_EQ(read("t.arrows.1"), in_one_file());
  std::filesystem::remove(folder_.at("t.arrows.1"));
  put("renamed.arrows", files.rows);
  EXPECT_EQ(read("t.jsonl.1"), in_one_file());
  std::filesystem::remove(folder_.at("t.arrows"));
  const TwoFiles elsewhere = split(lines_, {.file = "../t.arrows"});
  put("t.jsonl", elsewhere.lines);
  EXPECT_NE(read("t.jsonl").at(0).find("must be the name of a file beside this one"),
            std::string::npos);
}

TEST_F(RowsTest, OneFileOfTwoSaysWhatItCan) {
  write(split(lines_));
  std::filesystem::remove(folder_.at("t.arrows"));
  EXPECT_EQ(read("t.jsonl").at(0), "error: t.jsonl: its rows are in t.arrows, which is not there");
  EXPECT_EQ(read("t.jsonl", {.one_of_two = true}).size(), 5U);
  EXPECT_EQ(verified("t.jsonl"),
            "error: t.jsonl: its rows are in t.arrows, which is not there; not verified: its lines "
            "name 2 "
            "steps and 1 request, and count 6 rows as delivered");

  write(split(lines_));
  std::filesystem::remove(folder_.at("t.jsonl"));
  EXPECT_EQ(read("t.arrows", {.one_of_two = true}).at(3), "route null 1 1 0 0 3 1 2 0.5 0.25");
  EXPECT_NE(verified("t.arrows").find("not verified: 6 rows in 3 batches have the right checksums"),
            std::string::npos);
}

TEST_F(RowsTest, ATraceThatIsBeingWrittenIsReadUpToItsLastRowsLine) {
  TwoFiles files = split(lines_);
  const auto whole = in_one_file();
  // After the second rows line.
  const std::size_t second =
      files.lines.find("\"type\":\"rows\"", files.lines.find("\"type\":\"rows\"") + 1);
  files.lines.resize(files.lines.find('\n', second) + 1);
  write(files);
  EXPECT_EQ(read("t.jsonl"), std::vector<std::string>(whole.begin(), whole.begin() + 6));
  EXPECT_NE(verified("t.jsonl").find("no end line"), std::string::npos);
  // Lines may be written ahead of their rows.
  put("t.jsonl", files.lines + step(1, 1, 2, 4, 3, 6, 4) + "\n");
  EXPECT_NE(read("t.jsonl").back().find("missing key \"at_seq\""), std::string::npos);
  auto ahead = step(1, 1, 2, 5, 3, 6, 4);
  ahead.insert(ahead.size() - 1, ",\"at_seq\":5");
  put("t.jsonl", files.lines + ahead + "\n");
  EXPECT_EQ(read("t.jsonl"), std::vector<std::string>(whole.begin(), whole.begin() + 6));
  // No row yet, and no rows line.
  files.lines.resize(files.lines.find("{\"type\":\"rows\""));
  files.rows.clear();
  write(files);
  EXPECT_EQ(read("t.jsonl"), std::vector<std::string>(whole.begin(), whole.begin() + 2));
}

TEST_F(RowsTest, ATraceMayGrowWhileItIsRead) {
  const auto whole = in_one_file();
  const TwoFiles files = split(lines_);
  std::vector<std::size_t> ends = {files.lines.find('\n') + 1};  // after meta, and each rows line
  for (std::size_t at = 0;
       (at = files.lines.find("{\"type\":\"rows\"", at)) != std::string::npos;) {
    at = files.lines.find('\n', at) + 1;
    ends.push_back(at);
  }
  for (const std::size_t end : ends) {
    put("t.jsonl", files.lines.substr(0, end));
    put("t.arrows", end == ends[0] ? "" : files.rows);
    auto reader = TraceReader::open(folder_.at("t.jsonl"));
    ASSERT_TRUE(reader) << reader.error().message;
    write(files);
    std::vector<std::string> all;
    for (;;) {
      const auto next = reader->next();
      ASSERT_TRUE(next) << next.error().message;
      if (*next == nullptr) break;
      if (!std::holds_alternative<RowsWritten>((*next)->content))
        all.push_back(said((*next)->content));
    }
    EXPECT_EQ(all, whole) << end;
  }
}

TEST_F(RowsTest, AChangedByteIsNoticed) {
  const TwoFiles good = split(lines_);
  write(good);
  const auto expected = read("t.jsonl");
  const std::size_t schema = split({lines_[0], lines_[1]}).rows.size();
  std::size_t refused = 0;
  for (std::size_t at = 0; at < good.rows.size(); at += 3) {
    TwoFiles bad = good;
    bad.rows[at] = static_cast<char>(bad.rows[at] ^ 0x10);
    write(bad);
    const auto all = read("t.jsonl");
    ASSERT_FALSE(all.empty());
    if (all.back().starts_with("error")) {
      ++refused;
    } else {
      // Padding, and what this reader does not ask of a schema.
      EXPECT_EQ(all, expected) << at;
    }
  }
  EXPECT_GT(refused, (good.rows.size() - schema) / 3);
}

TEST_F(RowsTest, ACutRowsFileGivesItsWholeBatches) {
  const TwoFiles good = split(lines_);
  write(good);
  const auto expected = read("t.jsonl");
  for (std::size_t size = 0; size < good.rows.size(); size += 37) {
    put("t.arrows", good.rows.substr(0, size));
    const auto all = read("t.jsonl");
    ASSERT_TRUE(all.back().starts_with("error: t.arrows: byte ")) << all.back();
    EXPECT_TRUE(std::equal(all.begin(), all.end() - 1, expected.begin()));
  }
  put("t.arrows", good.rows + "x");
  EXPECT_NE(read("t.jsonl").back().find("goes on after what the last rows line says"),
            std::string::npos);
}

TEST_F(RowsTest, RowsLinesMustBeTrue) {
  const TwoFiles good = split(lines_);
  write(good);
  for (const std::string key : {"seq", "bytes", "batches", "delivered_total", "filtered_total"}) {
    std::size_t at = 0, changed = 0;
    while ((at = good.lines.find("{\"type\":\"rows\"", at)) != std::string::npos) {
      const std::size_t value = good.lines.find("\"" + key + "\":", at) + key.size() + 3;
      TwoFiles bad = good;
      bad.lines[value] = bad.lines[value] == '9' ? '8' : static_cast<char>(bad.lines[value] + 1);
      write(bad);
      EXPECT_TRUE(verified("t.jsonl").starts_with("error: ")) << key << " " << bad.lines;
      ++changed;
      ++at;
    }
    EXPECT_EQ(changed, 3U);
  }
}

TEST_F(RowsTest, AWrongRowIsNamed) {
  edit(7, "\"layer\":1", "\"layer\":0");
  write(split(lines_));
  EXPECT_EQ(verified("t.jsonl"),
            "error: t.jsonl: line 4: the row with seq 3 after it: layer 0 after layer 1 of the "
            "same step");
  lines_[6] = route(1, 1, 0, 3);
  edit(7, "[1,2]", "[1,8]");
  write(split(lines_));
  EXPECT_NE(verified("t.jsonl").find("a row has expert 8, expected an expert from 0 to 7"),
            std::string::npos);
}

TEST_F(RowsTest, CompressedFilesAreRead) {
  write(split(lines_));
  const auto expected = read("t.jsonl");
  const std::string plain = read_bytes(folder_.at("t.arrows"));
  std::string packed(ZSTD_compressBound(plain.size()), '\0');
  packed.resize(ZSTD_compress(packed.data(), packed.size(), plain.data(), plain.size(), 1));
  std::filesystem::remove(folder_.at("t.arrows"));
  put("t.arrows.zst", packed);
  EXPECT_EQ(read("t.jsonl"), expected);
  EXPECT_EQ(read("t.arrows.zst"), expected);
}

TEST_F(RowsTest, ALineOfARowHasNoPlaceBesideARowsFile) {
  TwoFiles files = split(lines_);
  files.lines.insert(files.lines.find("{\"type\":\"end\""), route(2, 1, 1, 6) + "\n");
  EXPECT_NE(error_of(files).find("is a row, though the meta line says"), std::string::npos);
}

}  // namespace
}  // namespace moetrace::trace
