// Two files of a part: taken, continued and refused together.
#include "daemon/collector/trace_file.hpp"

#include "daemon/collector/arrow_message.hpp"
#include "daemon/collector/test_trace.hpp"

namespace moetrace {
namespace {

constexpr const char* kTrace = "01234567-89ab-4def-8123-456789abcdef";
const std::string kMeta =
    R"({"type":"meta","top_k":2,"num_experts":8,"trace_id":")" + std::string(kTrace) + "\"}\n";
const RowsForm kForm{.top_k = 2, .num_experts = 8};

class TwoFiles : public testing::Test {
 protected:
  PartStart start(std::uint64_t part = 1) const { return {kTrace, part, kMeta, kForm}; }
  Result<TraceFile> take(std::uint64_t part = 1) {
    return TraceFile::take_new({lines}, start(part));
  }

  // As a collector leaves them: the head, one line, and `rows` bytes of rows that a line counts.
  void write_trace(std::size_t rows_bytes) {
    TraceFile file = std::move(*take());
    ASSERT_TRUE(file.begin_rows());
    ASSERT_TRUE(file.append(file.meta()));
    ASSERT_TRUE(file.append_rows(std::string(rows_bytes, 'r')));
    ASSERT_TRUE(file.append(step(0, 0)));
    ASSERT_TRUE(file.append(R"({"type":"rows","seq":4,"bytes":)" +
                            std::to_string(file.rows_bytes()) +
                            R"(,"batches":1,"delivered_total":4,"filtered_total":0})"
                            "\n"));
    counted = file.rows_bytes();
  }
  static std::string step(int number, int seq) {
    return R"({"type":"step","step":)" + std::to_string(number) +
           R"(,"rows":2,"layers":2,"time_ns":1,"seq":)" + std::to_string(seq) +
           R"(,"dropped_total":0,"event":)" + std::to_string(2 * number) +
           R"(,"attempted_total":)" + std::to_string(seq + 4) + R"(,"delivered_total":)" +
           std::to_string(seq) +
           R"(,"filtered_total":0,"torn_total":0,"event_lost_total":0,"at_seq":)" +
           std::to_string(seq) + "}\n";
  }
  void add(const std::string& path, const std::string& text) {
    std::ofstream(path, std::ios::app | std::ios::binary) << text;
  }

  TestDirectory directory;
  std::string lines = directory.file("trace.jsonl");
  std::string rows = directory.file("trace.arrows");
  std::uint64_t counted = 0;
};

TEST_F(TwoFiles, AreTakenTogether) {
  {
    auto file = take();
    ASSERT_TRUE(file) << file.error().message;
    EXPECT_NE(file->meta().find(R"("rows":{"file":"trace.arrows","weights":"float32"}})"
                                "\n"),
              std::string::npos);
    EXPECT_EQ(take().error().code, ErrorCode::kInUse) << "both are locked";
    ASSERT_TRUE(file->begin_rows());
    ASSERT_TRUE(file->append(file->meta()));
    EXPECT_EQ(file->rows_bytes(), schema_message(kForm, kTrace, 1).size());
  }
  // A collector that died after its first write of rows.
  add(rows, "rows that no line counts");
  auto again = take();
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(read_text(rows), "");
  // A pair that was emptied is another part.
  EXPECT_TRUE(again->begin_anew(2));
  ASSERT_TRUE(again->begin_rows());
  EXPECT_EQ(read_text(rows), schema_message(kForm, kTrace, 2));
  add(rows, "x");
  EXPECT_EQ(again->state(), TraceFile::State::kChanged);
  EXPECT_FALSE(again->begin_anew(3));
}

TEST_F(TwoFiles, OfWhichOneIsTakenAreNotMade) {
  write_text(rows, "another program's");
  EXPECT_EQ(take().error().code, ErrorCode::kInUse);
  EXPECT_FALSE(std::filesystem::exists(lines)) << "a name without rows is given back";
  // The rows of a trace whose lines were removed.
  write_text(rows, schema_message(kForm, kTrace, 1) + "rows");
  EXPECT_EQ(take().error().code, ErrorCode::kInUse);
  EXPECT_EQ(read_text(rows), schema_message(kForm, kTrace, 1) + "rows");
  write_text(rows, schema_message(kForm, kTrace, 2));
  EXPECT_EQ(take().error().code, ErrorCode::kInUse) << "another part's";
  EXPECT_TRUE(take(2));
}

TEST_F(TwoFiles, AreCutBackTogether) {
  write_trace(100);
  const std::string whole = read_text(lines);
  add(rows, "a message that no line counts");
  // Its lines, of which the second is after rows that are gone, and a torn one.
  const std::string kept = R"({"type":"request","request":3,"event":1,"at_seq":4})"
                           "\n";
  add(lines, kept + step(1, 6) + R"({"type":"request","request":4,"event":)");
  const auto file = TraceFile::go_on({lines}, kTrace);
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(read_text(lines), whole + kept);
  EXPECT_EQ(std::filesystem::file_size(rows), counted);
  EXPECT_EQ(file->position()->totals.delivered(), 4u);
  EXPECT_EQ(file->position()->totals.next_seq(), 4u);
  EXPECT_EQ(file->position()->rows.batches, 1u);
  EXPECT_EQ(file->rows(), kForm);
  EXPECT_EQ(file->size(), whole.size() + kept.size());
}

TEST_F(TwoFiles, WithoutARowsLineHaveNoRows) {
  write_trace(100);
  const std::string text = read_text(lines);
  write_text(lines, text.substr(0, text.find(R"({"type":"rows")")));
  const auto file = TraceFile::go_on({lines}, kTrace);
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(std::filesystem::file_size(rows), 0u);
  EXPECT_EQ(file->position()->totals.next_seq(), 0u);
}

TEST_F(TwoFiles, AreFoundUnderANewName) {
  write_trace(100);
  const std::string moved = directory.file("moved.jsonl");
  std::filesystem::rename(lines, moved);
  EXPECT_TRUE(TraceFile::go_on({moved}, kTrace)) << "the name in meta";
  std::filesystem::rename(rows, directory.file("moved.arrows"));
  EXPECT_TRUE(TraceFile::go_on({moved}, kTrace)) << "the same stem";
  // Beside the next part, which has the old names.
  const std::string rotated = directory.file("trace.jsonl.1");
  std::filesystem::rename(moved, rotated);
  std::filesystem::rename(directory.file("moved.arrows"), directory.file("trace.arrows.1"));
  write_text(rows, schema_message(kForm, kTrace, 2));
  EXPECT_TRUE(TraceFile::go_on({rotated}, kTrace)) << "what follows the extension is kept";
}

TEST_F(TwoFiles, ThatDoNotFitAreRefused) {
  const auto refused = [&](const char* why) {
    const std::string before = read_text(lines);
    const auto file = TraceFile::go_on({lines}, kTrace);
    ASSERT_FALSE(file);
    EXPECT_EQ(file.error().code, ErrorCode::kBadFile);
    EXPECT_NE(file.error().message.find(why), std::string::npos) << file.error().message;
    EXPECT_EQ(read_text(lines), before) << "nothing is changed";
  };
  write_trace(100);
  std::string text = read_text(rows);
  text[60] ^= 1;
  write_text(rows, text);
  refused("does not belong to");
  text[60] ^= 1;
  write_text(rows, text.substr(0, text.size() - 1));
  refused("is shorter than");
  std::filesystem::remove(rows);
  refused("is missing");
}

}  // namespace
}  // namespace moetrace
