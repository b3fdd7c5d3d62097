// The lines other than rows, through the C API.
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "trace/reader.h"

namespace {

const std::string kLinesMeta =
    R"({"type":"meta","layers_logged":[0,2],"top_k":2,"num_experts":8,"schema":"moetrace/1","trace_id":"t","num_layers":256})"
    "\n";
const std::string kBase =
    R"({"type":"base","seq":7,"event":8,"step":3,"open":6,"dropped_total":5,"attempted_total":18,"delivered_total":4,"filtered_total":1,"torn_total":2,"event_lost_total":1})"
    "\n";
const std::string kRequest =
    R"({"type":"request","req_id":"r","prompt_tokens":57,"cached_tokens":null,"request":4,"event":9})"
    "\n";
const std::string kStep =
    R"({"type":"step","step":5,"rows":57,"layers":2,"time_ns":-9,"seq":6,"dropped_total":1,"event":10,"attempted_total":10,"delivered_total":7,"filtered_total":2,"torn_total":0,"event_lost_total":3})"
    "\n";
const std::string kRoute =
    R"({"type":"route","req_id":"r","token_idx":1,"layer":0,"topk_ids":[1,2],"topk_weights":[1,2],"request":4,"step":5,"seq":6})"
    "\n";
const std::string kLoss =
    R"({"type":"loss","dropped":3,"dropped_total":8,"cause":"event_ring_full","after_seq":null,"event_lost_total":4})"
    "\n";
const std::string kTorn = R"({"type":"torn","first_seq":11,"count":2})"
                          "\n";
const std::string kControl =
    R"({"type":"control","layers":[0,64,255],"sample_every":10,"from_step":6,"enabled":false,"event":12,"reason":"max-total-size"})"
    "\n";
const std::string kRequestEnd =
    R"({"type":"request_end","req_id":"r","generated_tokens":3,"status":"stop","request":4,"event":13})"
    "\n";
const std::string kEnd =
    R"({"type":"end","attempted":5,"delivered":1,"filtered":0,"dropped":3,"torn":1,"status":"continued","cost":{"announce_ns":21,"hook_ns":null},"open":17,"ring":{"slots":64,"high_water":5}})"
    "\n";
const std::string kAll = kLinesMeta + kBase + kRequest + kStep + kRoute + kLoss + kTorn +
                         "{\"type\":\"later\",\"x\":1}\n" + kControl + kRequestEnd + kEnd;
constexpr uint32_t kEveryKind = 0xFF;

class Lines : public testing::Test {
 protected:
  int64_t read(const std::string& text, uint32_t kinds = kEveryKind, size_t capacity = 16,
               bool last = false) {
    lines_.resize(capacity);
    moetrace_reader_lines wanted = {.size = sizeof wanted,
                                    .line_size = sizeof(moetrace_reader_line),
                                    .capacity = capacity,
                                    .count = 0,
                                    .lines = lines_.data(),
                                    .kinds = kinds};
    const int64_t taken = moetrace_reader_read_lines(reader_.get(), text.data(), text.size(),
                                                     &place_, &wanted, last ? 1 : 0);
    lines_.resize(wanted.count);
    return taken;
  }

  std::unique_ptr<moetrace_reader, decltype(&moetrace_reader_close)> reader_{
      moetrace_reader_begin(0), moetrace_reader_close};
  moetrace_reader_place place_ = {.byte = 0, .line = 1};
  std::vector<moetrace_reader_line> lines_;
};

TEST_F(Lines, EveryKindWithAllItsNumbers) {
  ASSERT_EQ(read(kAll), static_cast<int64_t>(kAll.size())) << moetrace_reader_error(reader_.get());
  ASSERT_EQ(lines_.size(), 8U);

  const auto& base = lines_[0];
  EXPECT_EQ(base.kind, MOETRACE_READER_BASE);
  EXPECT_EQ(base.place.byte, kLinesMeta.size());
  EXPECT_EQ(base.place.line, 2U);
  EXPECT_EQ(base.part, -1);
  EXPECT_EQ(base.seq, 7);
  EXPECT_EQ(base.event, 8);
  EXPECT_EQ(base.step, 3);
  EXPECT_EQ(base.open, 6);
  EXPECT_EQ(base.attempted, 18);
  EXPECT_EQ(base.delivered, 4);
  EXPECT_EQ(base.filtered, 1);
  EXPECT_EQ(base.dropped, 5);
  EXPECT_EQ(base.torn, 2);
  EXPECT_EQ(base.event_lost, 1);

  const auto& request = lines_[1];
  EXPECT_EQ(request.kind, MOETRACE_READER_REQUEST);
  EXPECT_EQ(request.request, 4);
  EXPECT_EQ(request.prompt_tokens, 57);
  EXPECT_EQ(request.cached_tokens, -1);
  EXPECT_EQ(request.event, 9);

  const auto& step = lines_[2];
  EXPECT_EQ(step.kind, MOETRACE_READER_STEP);
  EXPECT_EQ(step.step, 5);
  EXPECT_EQ(step.rows, 57);
  EXPECT_EQ(step.layers, 2);
  EXPECT_EQ(step.time_ns, -9);
  EXPECT_EQ(step.seq, 6);
  EXPECT_EQ(step.event, 10);
  EXPECT_EQ(step.attempted, 10);
  EXPECT_EQ(step.delivered, 7);
  EXPECT_EQ(step.filtered, 2);
  EXPECT_EQ(step.dropped, 1);
  EXPECT_EQ(step.torn, 0);
  EXPECT_EQ(step.event_lost, 3);
  EXPECT_EQ(step.count, -1);
  EXPECT_EQ(step.enabled, -1);

  const auto& loss = lines_[3];
  EXPECT_EQ(loss.kind, MOETRACE_READER_LOSS);
  EXPECT_EQ(loss.code, MOETRACE_READER_EVENT_RING_FULL);
  EXPECT_EQ(loss.count, 3);
  EXPECT_EQ(loss.dropped, 8);
  EXPECT_EQ(loss.event_lost, 4);
  EXPECT_EQ(loss.seq, -1);
  EXPECT_EQ(loss.place.line, 6U);

  const auto& torn = lines_[4];
  EXPECT_EQ(torn.kind, MOETRACE_READER_TORN);
  EXPECT_EQ(torn.seq, 11);
  EXPECT_EQ(torn.count, 2);

  const auto& control = lines_[5];
  EXPECT_EQ(control.kind, MOETRACE_READER_CONTROL);
  EXPECT_EQ(control.enabled, 0);
  EXPECT_EQ(control.code, MOETRACE_READER_MAX_TOTAL_SIZE);
  EXPECT_EQ(control.sample_every, 10);
  EXPECT_EQ(control.from_step, 6);
  EXPECT_EQ(control.event, 12);
  EXPECT_EQ(control.layer_mask[0], 1U);
  EXPECT_EQ(control.layer_mask[1], 1U);
  EXPECT_EQ(control.layer_mask[2], 0U);
  EXPECT_EQ(control.layer_mask[3], uint64_t{1} << 63);

  const auto& ended = lines_[6];
  EXPECT_EQ(ended.kind, MOETRACE_READER_REQUEST_END);
  EXPECT_EQ(ended.request, 4);
  EXPECT_EQ(ended.generated_tokens, 3);
  EXPECT_EQ(ended.event, 13);

  const auto& end = lines_[7];
  EXPECT_EQ(end.kind, MOETRACE_READER_END);
  EXPECT_EQ(end.code, MOETRACE_READER_CONTINUED);
  EXPECT_EQ(end.attempted, 5);
  EXPECT_EQ(end.delivered, 1);
  EXPECT_EQ(end.filtered, 0);
  EXPECT_EQ(end.dropped, 3);
  EXPECT_EQ(end.torn, 1);
  EXPECT_EQ(end.open, 17);
  EXPECT_EQ(end.announce_ns, 21);
  EXPECT_EQ(end.hook_ns, -1);
  EXPECT_EQ(end.layer_mask[0], 0U);
  EXPECT_EQ(end.ring_slots, 64);
  EXPECT_EQ(end.high_water, 5);
  EXPECT_EQ(lines_[0].high_water, -1);
}

TEST_F(Lines, OnlyTheKindsThatAreWanted) {
  read(kAll, MOETRACE_READER_LOSS | MOETRACE_READER_TORN);
  ASSERT_EQ(lines_.size(), 2U);
  EXPECT_EQ(lines_[0].kind, MOETRACE_READER_LOSS);
  EXPECT_EQ(lines_[1].kind, MOETRACE_READER_TORN);
}

TEST_F(Lines, AFullArrayStopsAfterItsLastLine) {
  EXPECT_EQ(read(kAll, MOETRACE_READER_LOSS | MOETRACE_READER_TORN, 1),
            static_cast<int64_t>(kAll.find(kTorn)));
  EXPECT_EQ(place_.byte, kAll.find(kTorn));
  EXPECT_EQ(read(kAll.substr(place_.byte), kEveryKind, 1), static_cast<int64_t>(kTorn.size()));
  EXPECT_EQ(lines_[0].seq, 11);
}

TEST_F(Lines, CountsWhatTheRowsSay) {
  read(kAll);
  moetrace_reader_request request = {.size = sizeof request};
  ASSERT_EQ(moetrace_reader_get_request(reader_.get(), 0, &request), 1);
  EXPECT_EQ(request.rows, 1);
  size_t bytes = 0;
  EXPECT_NE(moetrace_reader_end(reader_.get(), &bytes), nullptr);
}

TEST_F(Lines, TheLastLineMayLackItsNewline) {
  const std::string text = kLinesMeta + kTorn.substr(0, kTorn.size() - 1);
  EXPECT_EQ(read(text), static_cast<int64_t>(kLinesMeta.size()));
  EXPECT_EQ(lines_.size(), 0U);
  EXPECT_EQ(read(text.substr(kLinesMeta.size()), kEveryKind, 16, true),
            static_cast<int64_t>(kTorn.size()) - 1);
  ASSERT_EQ(lines_.size(), 1U);
  EXPECT_EQ(lines_[0].count, 2);
}

// A program that was built against a shorter struct, or a longer one, than the library's.
TEST_F(Lines, TheSizeOfALineIsTheCallers) {
  for (const size_t line_size : {size_t{64}, sizeof(moetrace_reader_line) + 16}) {
    place_ = {.byte = 0, .line = 1};
    std::vector<char> room(4 * line_size, '\x55');
    moetrace_reader_lines wanted = {.size = sizeof wanted,
                                    .line_size = line_size,
                                    .capacity = 4,
                                    .count = 0,
                                    .lines = reinterpret_cast<moetrace_reader_line*>(room.data()),
                                    .kinds = MOETRACE_READER_STEP | MOETRACE_READER_TORN};
    moetrace_reader_read_lines(reader_.get(), kAll.data(), kAll.size(), &place_, &wanted, 0);
    ASSERT_EQ(wanted.count, 2U);
    for (const auto& [index, kind] :
         {std::pair(0U, MOETRACE_READER_STEP), {1U, MOETRACE_READER_TORN}}) {
      uint32_t found = 0;
      std::memcpy(&found, room.data() + index * line_size, sizeof found);
      EXPECT_EQ(found, kind) << line_size;
    }
    EXPECT_EQ(room[2 * line_size], '\x55');
    EXPECT_EQ(room[2 * line_size - 1] == '\x55', line_size > sizeof(moetrace_reader_line));
  }
}

TEST_F(Lines, ANumberThatDoesNotFitIsRefused) {
  const std::string text =
      kLinesMeta + R"({"type":"torn","first_seq":18446744073709551615,"count":1})";
  EXPECT_EQ(read(text + "\n"), -1);
  EXPECT_STREQ(moetrace_reader_error(reader_.get()), "line 2: a number is 2^63 or larger");
}

TEST_F(Lines, ALineThatIsWrong) {
  EXPECT_EQ(read(kLinesMeta + kTorn +
                 R"({"type":"control","layers":[0],"sample_every":1,)"
                 R"("from_step":1,"enabled":1,"event":2})"
                 "\n"),
            -1);
  EXPECT_EQ(lines_.size(), 1U);
  EXPECT_STREQ(moetrace_reader_error(reader_.get()),
               R"(line 3: "enabled" must be true, false or null, not 1)");
}

}  // namespace
