#include "trace/reader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace {

using Strings = std::vector<std::string>;

const std::string kTwoLayers =
    R"({"type":"meta","layers_logged":[0,2],"top_k":2,"num_experts":8,"schema":"moetrace/1","trace_id":"t","num_layers":3})";
const std::string kPlainMeta = R"({"type": "meta", "layers_logged": [0, 2], "top_k": 2})";

std::string route(int64_t request, int token, int layer, const std::string& ids = "[3,0]",
                  const std::string& weights = "[0.5,0.25]") {
  const auto text = [](int64_t value) { return std::to_string(value); };
  return R"({"type":"route","req_id":"r)" + text(request) + R"(","token_idx":)" + text(token) +
         R"(,"layer":)" + text(layer) + R"(,"topk_ids":)" + ids + R"(,"topk_weights":)" + weights +
         R"(,"request":)" + text(request) + R"(,"step":5,"seq":6})" + "\n";
}

std::string plain_route(const std::string& req_id, int token) {
  return R"({"type": "route", "req_id": ")" + req_id + R"(", "token_idx": )" +
         std::to_string(token) +
         R"(, "layer": 2, "topk_ids": [7, 1], "topk_weights": [NaN, 1.0]})" + "\n";
}

// A reader, arrays for its rows, and where it is.
class Reader {
 public:
  explicit Reader(const std::string& meta, size_t capacity = 64, uint32_t num_experts = 0)
      : request_(capacity),
        step_(capacity),
        token_idx_(capacity),
        seq_(capacity),
        layer_(capacity),
        ids_(2 * capacity),
        weights_(2 * capacity) {
    char why[256] = "";
    reader_.reset(moetrace_reader_open(meta.data(), meta.size(), num_experts, why, sizeof why));
    why_ = why;
    rows_ = {.size = sizeof rows_,
             .capacity = capacity,
             .count = 0,
             .request = request_.data(),
             .step = step_.data(),
             .token_idx = token_idx_.data(),
             .seq = seq_.data(),
             .layer = layer_.data(),
             .ids = ids_.data(),
             .weights = weights_.data()};
    place_ = {.byte = meta.size() + 1, .line = 2};
  }

  int64_t read(const std::string& text, int64_t only = MOETRACE_READER_ALL) {
    return moetrace_reader_read(reader_.get(), text.data(), text.size(), &place_, &rows_, only);
  }
  int64_t look(const std::string& text) {
    return moetrace_reader_read(reader_.get(), text.data(), text.size(), &place_, nullptr,
                                MOETRACE_READER_ALL);
  }
  // Reads one line that is wrong; what is wrong with it.
  std::string error(const std::string& text) {
    EXPECT_EQ(read(text), -1);
    return moetrace_reader_error(get());
  }
  moetrace_reader_request request(uint64_t index) {
    moetrace_reader_request request{.size = sizeof request};
    EXPECT_EQ(moetrace_reader_get_request(get(), index, &request), 1);
    return request;
  }
  moetrace_reader_info info() {
    moetrace_reader_info info{.size = sizeof info};
    moetrace_reader_get_info(get(), &info);
    return info;
  }
  std::vector<int64_t> counts(uint32_t layer) {
    std::vector<int64_t> counts(info().num_experts);
    moetrace_reader_get_counts(get(), layer, counts.data());
    return counts;
  }
  moetrace_reader* get() { return reader_.get(); }

  struct Close {
    void operator()(moetrace_reader* reader) { moetrace_reader_close(reader); }
  };
  std::unique_ptr<moetrace_reader, Close> reader_;
  std::string why_;
  moetrace_reader_place place_{};
  moetrace_reader_rows rows_{};
  std::vector<int64_t> request_, step_, token_idx_, seq_;
  std::vector<int16_t> layer_;
  std::vector<int32_t> ids_;
  std::vector<float> weights_;
};

std::string name_of(const moetrace_reader_request& request) {
  return {request.req_id, request.req_id_bytes};
}

TEST(Reader, FillsColumns) {
  Reader reader(kTwoLayers);
  const std::string text = route(4, 7, 2) + route(9, 0, 0, "[null,7]", "[null,1]");
  EXPECT_EQ(reader.read(text), text.size());
  ASSERT_EQ(reader.rows_.count, 2U);
  EXPECT_EQ(reader.request_[0], 4);
  EXPECT_EQ(reader.step_[0], 5);
  EXPECT_EQ(reader.token_idx_[0], 7);
  EXPECT_EQ(reader.seq_[0], 6);
  EXPECT_EQ(reader.layer_[0], 2);
  EXPECT_EQ(std::vector(reader.ids_.begin(), reader.ids_.begin() + 4),
            (std::vector<int32_t>{3, 0, -1, 7}));
  EXPECT_EQ(reader.weights_[0], 0.5F);
  EXPECT_TRUE(std::isnan(reader.weights_[2]));
  EXPECT_EQ(reader.weights_[3], 1.0F);
}

TEST(Reader, UnusedPlacesOfARowAreUnknown) {
  std::string meta = kTwoLayers;
  meta.insert(meta.size() - 1, R"(,"layers":[{"layer":0},{"layer":2,"top_k":1}])");
  Reader reader(meta);
  std::ranges::fill(reader.ids_, 99);
  std::ranges::fill(reader.weights_, 99.0F);
  const std::string text = route(0, 0, 0) + route(0, 0, 2, "[5]", "[0.75]") + route(0, 1, 0);
  EXPECT_EQ(reader.read(text), text.size()) << reader.why_;
  EXPECT_EQ(std::vector(reader.ids_.begin(), reader.ids_.begin() + 7),
            (std::vector<int32_t>{3, 0, 5, -1, 3, 0, 99}));
  EXPECT_EQ(reader.weights_[2], 0.75F);
  EXPECT_TRUE(std::isnan(reader.weights_[3]));
  EXPECT_EQ(reader.weights_[4], 0.5F);
  EXPECT_EQ(reader.counts(2), (std::vector<int64_t>{0, 0, 0, 0, 0, 1, 0, 0}));
}

TEST(Reader, TakesWholeLinesAndNoMoreThanThereIsRoom) {
  Reader reader(kTwoLayers, 3);
  const std::string line = route(0, 0, 0);
  EXPECT_EQ(reader.read(line + line.substr(0, 30)), line.size());
  EXPECT_EQ(reader.read(line + line + line), 2 * line.size());
  EXPECT_EQ(reader.rows_.count, 3U);
  EXPECT_EQ(reader.read(line), 0);
  EXPECT_EQ(reader.place_.line, 5U);
  EXPECT_EQ(reader.place_.byte, kTwoLayers.size() + 1 + 3 * line.size());
}

TEST(Reader, KnowsRequestsByTheirNumber) {
  Reader reader(kTwoLayers);
  const std::string text =
      R"({"type":"request","req_id":"same","prompt_tokens":3,"cached_tokens":1,"request":0,"event":0})"
      "\n" +
      route(5, 2, 0) + route(5, 9, 2) +
      R"({"type":"request","req_id":"same","prompt_tokens":null,"cached_tokens":0,"request":1,"event":0})"
      "\n"
      R"({"type":"request_end","req_id":"same","generated_tokens":8,"status":"stop","request":0,"event":1})"
      "\n";
  EXPECT_EQ(reader.read(text), text.size());
  EXPECT_EQ(reader.info().requests, 3U);
  const auto first = reader.request(0);
  EXPECT_EQ(name_of(first), "same");
  EXPECT_EQ(first.prompt_tokens, 3);
  EXPECT_EQ(first.cached_tokens, 1);
  EXPECT_EQ(first.generated_tokens, 8);
  EXPECT_EQ(std::string(first.status, first.status_bytes), "stop");
  const auto by_rows = reader.request(1);
  EXPECT_EQ(name_of(by_rows), "r5");
  EXPECT_EQ(by_rows.rows, 2);
  EXPECT_EQ(by_rows.positions, 10);
  EXPECT_EQ(by_rows.first.line, 3U);
  EXPECT_EQ(by_rows.end_byte,
            kTwoLayers.size() + 1 +
                text.find(R"({"type":"request","req_id":"same","prompt_tokens":null)"));
  const auto second = reader.request(2);
  EXPECT_EQ(second.number, 1);
  EXPECT_EQ(second.prompt_tokens, -1);
  EXPECT_EQ(second.status, nullptr);
}

TEST(Reader, CountsEachLineOnceHoweverOftenItIsRead) {
  Reader reader(kTwoLayers);
  const std::string one = route(0, 0, 2);
  const auto start = reader.place_;
  reader.look(one);
  reader.place_ = start;
  reader.read(one + one);
  EXPECT_EQ(moetrace_reader_counted(reader.get()).byte, reader.place_.byte);
  EXPECT_EQ(reader.request(0).rows, 2);
  EXPECT_EQ(reader.counts(2), (std::vector<int64_t>{2, 0, 0, 2, 0, 0, 0, 0}));
  EXPECT_EQ(reader.counts(0), std::vector<int64_t>(8));
  // Past what is counted: known, but not counted.
  reader.place_.byte += 100;
  reader.read(one);
  EXPECT_EQ(reader.request(0).rows, 2);
}

TEST(Reader, GivesTheRowsOfOneRequest) {
  Reader reader(kTwoLayers);
  reader.read(route(1, 0, 0) + route(2, 1, 0) + route(1, 2, 0), 1);
  ASSERT_EQ(reader.rows_.count, 2U);
  EXPECT_EQ(reader.token_idx_[1], 2);
  EXPECT_EQ(reader.info().requests, 2U);
}

TEST(Reader, ReadsPlainLogs) {
  Reader reader(kPlainMeta, 64, 60);
  EXPECT_EQ(reader.info().plain, 1U);
  EXPECT_EQ(reader.info().num_experts, 60U);
  EXPECT_EQ(reader.info().num_layers, 3U);
  const std::string text = plain_route("b", 0) + plain_route("a", 1) + plain_route("b", 2);
  EXPECT_EQ(reader.read(text), text.size());
  EXPECT_EQ(std::vector(reader.request_.begin(), reader.request_.begin() + 3),
            (std::vector<int64_t>{0, 1, 0}));
  EXPECT_EQ(name_of(reader.request(0)), "b");
  EXPECT_EQ(reader.step_[0], -1);
  EXPECT_EQ(reader.seq_[0], -1);
  EXPECT_TRUE(std::isnan(reader.weights_[0]));
  EXPECT_EQ(Reader(kPlainMeta).info().num_experts, 0U);
}

// A meta line that is refused changes nothing: the rows before it can be read again.
TEST(Reader, ReadsAgainWhatWasBeforeAMetaLineThatContradictsIt) {
  Reader reader(kPlainMeta);
  const auto start = reader.place_;
  const std::string row = plain_route("a", 0);
  const std::string text = row + R"({"type": "meta", "num_experts": 3})" + "\n";
  for (int time = 1; time <= 2; ++time) {
    reader.place_ = start;
    EXPECT_EQ(reader.read(kPlainMeta + "\n"), kPlainMeta.size() + 1);
    EXPECT_TRUE(reader.error(text).find("\"num_experts\" is 3, before it was at least 8") !=
                std::string::npos);
    EXPECT_EQ(reader.rows_.count, static_cast<size_t>(time));
  }
}

TEST(Reader, KeepsTheEnd) {
  Reader reader(kTwoLayers);
  size_t bytes = 1;
  EXPECT_EQ(moetrace_reader_end(reader.get(), &bytes), nullptr);
  const std::string end =
      R"({"type":"end","attempted":5,"delivered":1,"filtered":2,"dropped":3,"torn":4,"status":"closed"})";
  reader.read(end + "\n");
  const char* const text = moetrace_reader_end(reader.get(), &bytes);
  ASSERT_NE(text, nullptr);
  EXPECT_EQ(std::string(text, bytes), end);
}

TEST(Reader, SaysWhatIsWrongAndWhere) {
  EXPECT_EQ(Reader("nonsense").why_, "line 1: not a meta line");
  EXPECT_EQ(Reader(kTwoLayers, 1, 9).why_, "line 1: the trace has 8 experts, not 9");

  Reader reader(kTwoLayers);
  const std::string good = route(0, 0, 0);
  EXPECT_EQ(reader.error(good + route(0, 0, 0, "[8,0]")),
            "line 3: expert id 8 is out of range (0 to 7)");
  EXPECT_EQ(reader.rows_.count, 1U);  // what was before it is in
  EXPECT_EQ(reader.place_.line, 3U);
  EXPECT_EQ(reader.error(route(0, 0, 3)), "line 3: layer 3 is out of range (0 to 2)");
  EXPECT_EQ(reader.error(route(0, 0, 0, "[1]")), R"(line 3: "topk_ids" has 1 entries, top_k is 2)");
  EXPECT_EQ(reader.error(std::string(9, '\0') + "\n"),
            "line 3: not JSON: invalid UTF-8 or a control character");
  EXPECT_EQ(reader.error(route(INT64_MAX, 0, 0)), "line 3: a number is 2^63 - 1 or larger");
  EXPECT_EQ(reader.error(kTwoLayers + "\n"), "line 3: a second trace begins here");
  EXPECT_EQ(reader.error(good.substr(0, 60) + "\n"),
            "line 3: not JSON: the line ends in the middle");
  EXPECT_EQ(reader.error(std::string((16 << 20) + 1, ' ')),
            "line 3: longer than 16 MiB, the most that a line of a trace may have");
  EXPECT_EQ(reader.read(good), good.size());
  EXPECT_STREQ(moetrace_reader_error(reader.get()), "");

  Reader plain(kPlainMeta, 64, 7);
  EXPECT_EQ(
      plain.error(plain_route("a", 0)),
      "line 2: expert id 7 is out of range (0 to 6, as given): the model has at least 8 experts");
}

}  // namespace
