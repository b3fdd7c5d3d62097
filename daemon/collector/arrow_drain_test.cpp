// A drain with Arrow rows: what waits, when it is written, and what outgrows its columns. The
// verifier, which reads both files, is the oracle.
#include "daemon/collector/arrow_message.hpp"
#include "daemon/collector/test_trace.hpp"
#include "trace/verify_files.hpp"

namespace moetrace {
namespace {

using State = SegmentDrain::State;

class ArrowDrain : public testing::Test {
 protected:
  std::unique_ptr<SegmentDrain> attached() {
    auto segment =
        CollectorSegment::open(directory.path(), name, CollectorSegment::Access::kCollect);
    EXPECT_TRUE(segment) << segment.error().message;
    const auto ledger = read_ledger(segment->map());
    auto place = place_trace(names(), start(false),
                             {segment->map().ctl()->route_consumed, ledger ? ledger->filtered : 0});
    EXPECT_TRUE(place) << place.error().message;
    auto made =
        SegmentDrain::attach(std::move(*segment), std::move(*place), {}, [](const LineBatch&) {});
    EXPECT_TRUE(made) << made.error().message;
    return std::move(*made);
  }
  // Steps for more than a batch fit both rings.
  Settings settings() const {
    Settings made = test_settings(directory, 1 << 12);
    made.sizes.event_slots = 1 << 10;
    return made;
  }
  OutputNames names() const {
    CollectorOptions options;
    options.output = path;
    return OutputNames(options, name.trace_id, 0);
  }
  PartStart start(bool wide) const {
    PartStart made = part_start(producer->map(), name.trace_id);
    made.rows = RowsForm{.top_k = kTestTopK, .num_experts = 8, .wide = wide};
    return made;
  }
  std::uint64_t verified(const std::vector<std::string>& files) {
    const auto summary = trace::verify_trace(files);
    EXPECT_TRUE(summary) << summary.error().message;
    return summary ? summary->rows : 0;
  }

  TestDirectory directory;
  std::string path = directory.file("trace.jsonl");
  std::unique_ptr<RingProducer> producer{*RingProducer::open(settings())};
  SegmentName name = producer->name();
};

TEST_F(ArrowDrain, RowsWaitForABatch) {
  const std::uint64_t request = producer->requests().begin("r", 9, 0);
  auto collector = attached();
  const std::uint64_t schema = schema_message(*start(false).rows, name.trace_id, 1).size();
  run_step(*producer, request, 0, 8);
  EXPECT_EQ(*drain(*collector), State::kIdle);
  EXPECT_EQ(collector->file().rows_bytes(), schema);
  EXPECT_FALSE(collector->can_change_file());
  EXPECT_EQ(producer->map().ctl()->route_consumed, 0u) << "the ring keeps what waits";
  collector->write_waiting_rows();
  EXPECT_EQ(*drain(*collector), State::kIdle);
  EXPECT_GT(collector->file().rows_bytes(), schema);
  EXPECT_TRUE(collector->can_change_file());
  EXPECT_EQ(producer->map().ctl()->route_consumed, 8u * kTestLayers);
  // A quarter of the ring makes a batch.
  for (std::uint64_t n = 1; n <= 64; ++n) run_step(*producer, request, 8 * n, 8);
  EXPECT_EQ(*drain(*collector), State::kIdle);
  EXPECT_EQ(producer->map().ctl()->route_consumed, 8u * kTestLayers + (1u << 10));
  // A collector that dies now leaves two files that its successor continues.
  collector.reset();
  collector = attached();
  producer->requests().end(request, 1, "stop");
  producer.reset();
  EXPECT_EQ(*drain(*collector), State::kEnded);
  EXPECT_EQ(verified({path}), 65u * 8 * kTestLayers);
  EXPECT_EQ(lines_of(path, "route").size(), 0u);
}

TEST_F(ArrowDrain, ANumberThatOutgrowsItsColumnBeginsAWidePart) {
  const std::uint64_t request = producer->requests().begin("long", 9, 0);
  auto collector = attached();
  constexpr std::uint64_t kMost = 0x7FFFFFFF;
  run_step(*producer, request, kMost - 3, 4);
  run_step(*producer, request, kMost - 1, 4);  // its third row does not fit
  EXPECT_EQ(*drain(*collector), State::kOutgrown);
  EXPECT_TRUE(collector->needs_wide_rows());
  ASSERT_TRUE(collector->can_change_file());
  PartStart wide = start(true);
  wide.part = 2;
  collector->go_on_in(*next_file(names(), wide));
  EXPECT_EQ(*drain(*collector), State::kIdle);
  producer->requests().end(request, 1, "stop");
  producer.reset();
  EXPECT_EQ(*drain(*collector), State::kEnded);
  EXPECT_TRUE(collector->needs_wide_rows()) << "a later part is wide, too";
  const std::string second = directory.file("trace.2.jsonl");
  const std::uint64_t in_first = verified({path});
  const std::uint64_t in_second = verified({second});
  EXPECT_EQ(verified({path, second}), 8u * kTestLayers);
  EXPECT_EQ(in_first + in_second, 8u * kTestLayers);
  EXPECT_GE(in_first, 4u * kTestLayers);
  EXPECT_GT(in_second, 0u);
}

}  // namespace
}  // namespace moetrace
