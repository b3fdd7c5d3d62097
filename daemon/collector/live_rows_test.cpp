// Rows for subscribers to topic `rows`: what goes out, when, and that it is what the file gets. The
// readers' parser of such messages is the oracle.
#include "daemon/collector/live_rows.hpp"

#include <cmath>

#include "daemon/collector/test_trace.hpp"
#include "daemon/collector/topic_subscribers.hpp"
#include "trace/arrow_message.hpp"
#include "trace/rows_message.hpp"
#include "trace/trace_reader.hpp"

namespace moetrace {
namespace {

using nlohmann::json;
using State = SegmentDrain::State;

class LiveRowsTest : public testing::Test {
 protected:
  std::unique_ptr<SegmentDrain> attached(RowsPlace place_of_rows,
                                         const moetrace_layer_mask& filter = kEveryLayer) {
    auto segment =
        CollectorSegment::open(directory.path(), name, CollectorSegment::Access::kCollect);
    EXPECT_TRUE(segment) << segment.error().message;
    CollectorOptions options;
    options.output = path;
    PartStart start = part_start(producer->map(), name.trace_id);
    if (place_of_rows == RowsPlace::kArrow)
      start.rows = RowsForm{.top_k = kTestTopK, .num_experts = 8};
    const auto ledger = read_ledger(segment->map());
    auto place = place_trace(OutputNames(options, name.trace_id, 0), start,
                             {segment->map().ctl()->route_consumed, ledger ? ledger->filtered : 0});
    EXPECT_TRUE(place) << place.error().message;
    auto made = SegmentDrain::attach(
        std::move(*segment), std::move(*place),
        {.layers = filter,
         .live_rows_wanted = [this] { return wanted; },
         .publish_rows = [this](LiveMessage sent) { messages.push_back(std::move(sent)); }},
        [](const LineBatch&) {});
    EXPECT_TRUE(made) << made.error().message;
    return std::move(*made);
  }

  // All rows as the file's `route` lines would be: seq, layer, step, request, token_idx, ids.
  std::vector<json> received() {
    trace::Meta meta;
    meta.trace_id = name.trace_id;
    meta.top_k = kTestTopK;
    std::vector<json> rows;
    for (const LiveMessage& message : messages) {
      const auto* bytes = reinterpret_cast<const std::uint8_t*>(message.stream.data());
      const auto run = parser.read({bytes, message.stream.size()}, meta, {.num_experts = 8});
      EXPECT_TRUE(run) << run.error().message;
      if (!run) return rows;
      EXPECT_EQ(run->size(), message.rows);
      EXPECT_EQ(static_cast<std::uint64_t>(run->seq[0]), message.first_seq);
      const json names = json::parse(message.requests);
      for (std::size_t n = 0; n < run->size(); ++n) {
        json row{{"seq", run->seq[n]}, {"layer", run->layer[n]}, {"step", run->step[n]}};
        row["request"] = run->request[n];
        row["token_idx"] = run->token_idx[n];
        row["req_id"] = names.at(std::to_string(run->request[n]));
        for (std::size_t k = n * kTestTopK; k < (n + 1) * kTestTopK; ++k) {
          row["topk_ids"].push_back(run->expert_ids[k]);
          row["topk_weights"].push_back(run->weights[k]);
        }
        rows.push_back(row);
      }
    }
    return rows;
  }
  std::vector<json> in_file() {
    std::vector<json> rows = lines_of(path, "route");
    for (json& row : rows) {
      row.erase("type");
      for (json& weight : row["topk_weights"]) weight = weight.get<float>();
    }
    return rows;
  }

  TestDirectory directory;
  std::string path = directory.file("trace.jsonl");
  std::unique_ptr<RingProducer> producer{*RingProducer::open(test_settings(directory, 1 << 12))};
  SegmentName name = producer->name();
  bool wanted = true;
  std::vector<LiveMessage> messages;
  trace::RowsMessage parser;
};

TEST_F(LiveRowsTest, AreTheRowsOfTheFile) {
  auto collector = attached(RowsPlace::kLines);
  const std::uint64_t first = producer->requests().begin("a \"quoted\" name", 9, 0);
  const std::uint64_t second = producer->requests().begin("b", 9, 0);
  for (std::uint64_t n = 0; n < 40; ++n) {
    run_step(*producer, n % 2 == 0 ? first : second, 3 * n, 3);
    if (n % 5 == 0) {
      EXPECT_EQ(*drain(*collector), State::kIdle);
    }
  }
  producer.reset();
  EXPECT_EQ(*drain(*collector), State::kEnded);
  const auto rows = received();
  EXPECT_EQ(rows.size(), 40u * 3 * kTestLayers);
  EXPECT_EQ(json(rows), json(in_file()));
  EXPECT_EQ(messages.back().totals.delivered(), rows.size());
}

// What the file waits for is nothing to them; a new collector sends again what is not in the file.
TEST_F(LiveRowsTest, GoOutBeforeTheFileHasThem) {
  const std::uint64_t request = producer->requests().begin("r", 9, 0);
  auto collector = attached(RowsPlace::kArrow);
  run_step(*producer, request, 0, 8);
  EXPECT_EQ(*drain(*collector), State::kIdle);
  const auto before = received();
  EXPECT_EQ(before.size(), 8u * kTestLayers) << "the step is over";
  EXPECT_EQ(producer->map().ctl()->route_consumed, 0u) << "the ring keeps what waits";
  collector.reset();
  messages.clear();
  collector = attached(RowsPlace::kArrow);
  run_step(*producer, request, 8, 2);
  producer.reset();
  EXPECT_EQ(*drain(*collector), State::kEnded);
  auto again = received();
  ASSERT_EQ(again.size(), 10u * kTestLayers);
  EXPECT_EQ(messages.back().totals.delivered(), 10u * kTestLayers);
  again.resize(before.size());
  EXPECT_EQ(json(again), json(before));
}

TEST_F(LiveRowsTest, StartWithTheSubscriptionAndEndWithIt) {
  const std::uint64_t request = producer->requests().begin("r", 9, 0);
  auto collector = attached(RowsPlace::kLines);
  wanted = false;
  run_step(*producer, request, 0, 8);
  EXPECT_EQ(*drain(*collector), State::kIdle);
  EXPECT_EQ(messages.size(), 0u);
  wanted = true;
  run_step(*producer, request, 8, 2);
  EXPECT_EQ(*drain(*collector), State::kIdle);
  wanted = false;
  run_step(*producer, request, 10, 2);
  EXPECT_EQ(*drain(*collector), State::kIdle);
  const auto rows = received();
  ASSERT_EQ(rows.size(), 2u * kTestLayers);
  EXPECT_EQ(rows[0].at("seq"), 8u * kTestLayers) << "what came before is not skipped, but missed";
  EXPECT_EQ(messages[0].totals.delivered(), 10u * kTestLayers);
}

TEST_F(LiveRowsTest, FilteredRowsAreSkipped) {
  const std::uint64_t request = producer->requests().begin("r", 9, 0);
  auto collector = attached(RowsPlace::kLines, {{0b10, 0, 0, 0}});
  run_step(*producer, request, 0, 8);
  run_step(*producer, request, 8, 8);
  producer.reset();
  EXPECT_EQ(*drain(*collector), State::kEnded);
  EXPECT_EQ(json(received()), json(in_file()));
  EXPECT_EQ(received().size(), 16u);
  EXPECT_EQ(messages.back().totals.filtered(), 16u);
}

// A step without its end: its rows wait for the interval, or for the producer's end.
TEST_F(LiveRowsTest, ADyingProducersRowsGoOut) {
  const std::uint64_t request = producer->requests().begin("r", 9, 0);
  auto collector = attached(RowsPlace::kArrow);
  run_step(*producer, request, 0, 8, 1);
  producer.reset();
  EXPECT_EQ(*drain(*collector), State::kEnded);
  EXPECT_EQ(received().size(), 8u);
  EXPECT_EQ(lines_of(path, "end")[0].at("delivered"), 8);
}

TEST_F(LiveRowsTest, OfABadSegmentAreWhatTheFileKeeps) {
  const std::uint64_t request = producer->requests().begin("r", 9, 0);
  auto collector = attached(RowsPlace::kLines);
  run_step(*producer, request, 0, 3);
  run_step(*producer, request, 3, 3);
  auto* head = reinterpret_cast<moetrace_route_head*>(producer->map().route_ring().slot(8));
  head->row = 77;
  const auto state = drain(*collector);
  ASSERT_FALSE(state);
  EXPECT_EQ(received().size(), 8u);
  EXPECT_EQ(json(received()), json(in_file()));
}

TEST(TopicSubscribers, CountsPrefixesOfItsTopic) {
  TopicSubscribers rows("rows");
  rows.take(3, "route", true);
  rows.take(3, "rowss", true);
  EXPECT_FALSE(rows.any());
  rows.take(3, "ro", true);
  rows.take(4, "", true);
  EXPECT_TRUE(rows.any());
  rows.take(4, "", false);
  rows.take(4, "", false);
  rows.take(5, "rows", false);
  EXPECT_TRUE(rows.any()) << "another connection can't end it";
  rows.take(-1, "ro", false);
  EXPECT_FALSE(rows.any());
}

}  // namespace
}  // namespace moetrace
