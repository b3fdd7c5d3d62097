// Messages of topic `rows`, through the C API.
#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <string>

#include "trace/arrow_test_writer.hpp"
#include "trace/reader.h"

namespace moetrace::trace {
namespace {

const std::string kMetaOfMessages =
    R"({"type":"meta","layers_logged":[0,2],"top_k":2,"num_experts":8,"schema":"moetrace/1","trace_id":"t","num_layers":3})";

std::string message(const RowsSchema& schema, std::uint64_t first, std::size_t rows) {
  ArrowTestWriter writer(schema);
  std::vector<TestRow> made;
  for (std::uint64_t n = 0; n < rows; ++n) {
    made.push_back({.request = 4,
                    .token_idx = n,
                    .step = 5,
                    .layer = 2,
                    .ids = {static_cast<std::uint16_t>(n % 8), kNoExpert},
                    .weights = {.5F, .25F},
                    .seq = first + 2 * n});
  }
  writer.batch(first, first + 2 * rows, first + rows, made);
  return writer.bytes();
}

class RowsMessageTest : public testing::Test {
 protected:
  static constexpr std::size_t kRoom = 16;
  const RowsSchema schema_{
      .trace_id = "t", .part = 1, .top_k = 2, .wide = true, .weights = StoredWeights::kFloat32};

  void SetUp() override {
    char why[256];
    reader_.reset(
        moetrace_reader_open(kMetaOfMessages.data(), kMetaOfMessages.size(), 0, why, sizeof why));
    ASSERT_NE(reader_, nullptr) << why;
  }
  // Rows taken, or the error.
  std::string read(const std::string& bytes, std::int64_t from = 0) {
    const auto taken =
        moetrace_reader_read_message(reader_.get(), bytes.data(), bytes.size(), from, &rows_);
    return taken < 0 ? moetrace_reader_error(reader_.get()) : std::to_string(taken);
  }
  moetrace_reader_request request() {
    moetrace_reader_request found{.size = sizeof found};
    EXPECT_EQ(moetrace_reader_get_request(reader_.get(), 0, &found), 1);
    return found;
  }

  std::array<std::int64_t, kRoom> request_{}, step_{}, token_idx_{}, seq_{};
  std::array<std::int16_t, kRoom> layer_{};
  std::array<std::int32_t, 2 * kRoom> ids_{};
  std::array<float, 2 * kRoom> weights_{};
  moetrace_reader_rows rows_{
      sizeof rows_, kRoom,         0,           request_.data(), step_.data(), token_idx_.data(),
      seq_.data(),  layer_.data(), ids_.data(), weights_.data()};
  std::unique_ptr<moetrace_reader, decltype(&moetrace_reader_close)> reader_{
      nullptr, &moetrace_reader_close};
};

TEST_F(RowsMessageTest, RowsAreAppendedAndCounted) {
  EXPECT_EQ(read(message(schema_, 10, 3)), "3");
  EXPECT_EQ(read(message(schema_, 16, 2)), "2");
  EXPECT_EQ(rows_.count, 5U);
  for (std::int64_t n = 0; n < 5; ++n) EXPECT_EQ(seq_.at(static_cast<std::size_t>(n)), 10 + 2 * n);
  EXPECT_EQ(ids_[4], 2);
  EXPECT_EQ(ids_[5], -1);
  EXPECT_EQ(weights_[1], .25F);
  EXPECT_EQ(request().rows, 5);
  std::array<std::int64_t, 8> counts{};
  ASSERT_EQ(moetrace_reader_get_counts(reader_.get(), 2, counts.data()), 1);
  EXPECT_EQ(counts[0], 2);
  EXPECT_EQ(counts[2], 1);
}

TEST_F(RowsMessageTest, RowsThatCameBeforeAreDropped) {
  EXPECT_EQ(read(message(schema_, 10, 3)), "3");
  EXPECT_EQ(read(message(schema_, 12, 4), 15), "2") << "12 and 14 came before";
  EXPECT_EQ(read(message(schema_, 10, 3), 19), "0");
  EXPECT_EQ(rows_.count, 5U);
  EXPECT_EQ(seq_[3], 16);
  EXPECT_EQ(request().rows, 5) << "each row counts once";
}

TEST_F(RowsMessageTest, ARequestGetsItsNameWhenItsLineComes) {
  EXPECT_EQ(read(message(schema_, 10, 3)), "3");
  EXPECT_EQ(request().req_id, nullptr);
  const std::string line =
      R"({"type":"request","req_id":"r","prompt_tokens":7,"cached_tokens":0,"request":4,"event":0})"
      "\n";
  moetrace_reader_place place{.byte = kMetaOfMessages.size() + 1, .line = 2};
  EXPECT_EQ(moetrace_reader_read(reader_.get(), line.data(), line.size(), &place, nullptr,
                                 MOETRACE_READER_ALL),
            static_cast<std::int64_t>(line.size()));
  ASSERT_NE(request().req_id, nullptr);
  EXPECT_EQ(std::string(request().req_id, request().req_id_bytes), "r");
}

TEST_F(RowsMessageTest, WhatIsNoneIsRefused) {
  RowsSchema other = schema_;
  other.trace_id = "u";
  EXPECT_EQ(read(message(other, 0, 1)), "its rows are of trace u");
  other = schema_;
  other.top_k = 3;
  ArrowTestWriter wider(other);
  wider.batch(0, 1, 1, {{.layer = 2, .ids = {1, 2, 3}, .weights = {1, 1, 1}}});
  EXPECT_EQ(read(wider.bytes()), "its rows have top_k 3, the meta line 2");
  EXPECT_EQ(read(ArrowTestWriter(schema_).bytes()), "an Arrow message is missing");
  EXPECT_EQ(read("route lines\n"), "it is not an Arrow stream");
  const std::string good = message(schema_, 0, 3);
  EXPECT_NE(read(good + "12345678").find(" bytes instead of "), std::string::npos);
  EXPECT_EQ(read(message(schema_, 0, kRoom + 1)), "it has 17 rows, more than its header says");
  EXPECT_EQ(rows_.count, 0U) << "nothing was taken";
  EXPECT_EQ(read(good), "3") << "it goes on";
}

// Of a cut message, and of one with a changed byte, nothing is taken, or all that it said.
TEST_F(RowsMessageTest, ChangedBytesAreNoticed) {
  const std::string good = message(schema_, 0, 3);
  for (std::size_t at = 0; at < good.size(); ++at) {
    const std::string said = read(good.substr(0, at));
    EXPECT_EQ(rows_.count, 0U) << at << ": " << said;
    EXPECT_NE(said, "") << at;
  }
  const std::size_t body = good.size() - 64;
  for (std::size_t at = body; at < good.size(); ++at) {
    std::string changed = good;
    changed[at] = static_cast<char>(changed[at] ^ 1);
    EXPECT_EQ(read(changed), "the checksum of its batch is wrong") << at;
  }
}

}  // namespace
}  // namespace moetrace::trace
