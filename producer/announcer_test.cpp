#include "producer/announcer.hpp"

#include "producer/test_segment.hpp"
#include "shm/layer_mask.hpp"

namespace moetrace {
namespace {

std::vector<moetrace_span> spans(std::size_t count) {
  std::vector<moetrace_span> made;
  for (std::size_t n = 0; n < count; ++n)
    made.push_back({n, 10 * n, static_cast<std::uint32_t>(n), 1});
  return made;
}

TEST(Announcer, WritesAStepAndItsSpansAsOneGroup) {
  for (std::size_t count = 0; count <= 5; ++count) {
    Bench bench;
    const StepBlock block = bench.announcer.announce(7, spans(count));
    EXPECT_EQ(block.rows, 7u);
    EXPECT_TRUE(block.record);
    const auto slots = bench.reader.events();
    ASSERT_EQ(slots.size(), 1 + (count + 1) / 2);
    EXPECT_EQ(slots[0].kind, MOETRACE_EVENT_STEP);
    EXPECT_EQ(slots[0].slots, slots.size());
    const auto step = slots[0].as<moetrace_step_event>();
    EXPECT_EQ(step.step, 0u);
    EXPECT_EQ(step.rows, 7u);
    EXPECT_EQ(step.spans, count);
    EXPECT_EQ(step.layers, 3u);
    EXPECT_EQ(step.time_ns, block.time_ns);
    EXPECT_GE(step.time_ns, 0);
    for (std::size_t n = 0; n < count; ++n) {
      EXPECT_EQ(slots[1 + n / 2].kind, MOETRACE_EVENT_SPAN);
      EXPECT_EQ(slots[1 + n / 2].slots, 0);
      const moetrace_span span = slots[1 + n / 2].as<moetrace_span_event>().span[n % 2];
      EXPECT_EQ(span.request, n);
      EXPECT_EQ(span.first_position, 10 * n);
      EXPECT_EQ(span.first_row, n);
      EXPECT_EQ(span.rows, 1u);
    }
    if (count % 2 != 0) {
      EXPECT_EQ(slots.back().as<moetrace_span_event>().span[1].rows, 0u);
    }
    EXPECT_EQ(bench.host().attempted, 21u);
    EXPECT_EQ(bench.host().steps, 1u);
    EXPECT_EQ(bench.host().event_lost, 0u);
    EXPECT_EQ(bench.host().events_claimed, slots.size());
  }
}

TEST(Announcer, ColumnsGiveTheSameSpans) {
  const std::vector<std::uint64_t> requests = {7, 3, 1ull << 40};
  const std::vector<std::int32_t> starts = {0, 2, 3, 9};
  const std::vector<std::int32_t> firsts = {5, 0, INT32_MAX};
  for (std::size_t count = 0; count <= requests.size(); ++count) {
    Bench bench;
    ASSERT_TRUE(
        bench.announcer.announce(9, {count, requests.data(), starts.data(), firsts.data()}).record);
    const auto slots = bench.reader.events();
    EXPECT_EQ(slots.at(0).as<moetrace_step_event>().spans, count);
    ASSERT_EQ(slots.size(), Announcer::slots_for(count));
    for (std::size_t n = 0; n < count; ++n) {
      const moetrace_span span = slots[1 + n / 2].as<moetrace_span_event>().span[n % 2];
      EXPECT_EQ(span.request, requests[n]);
      EXPECT_EQ(span.first_position, static_cast<std::uint64_t>(firsts[n]));
      EXPECT_EQ(span.first_row, static_cast<std::uint32_t>(starts[n]));
      EXPECT_EQ(span.rows, static_cast<std::uint32_t>(starts[n + 1] - starts[n]));
    }
  }
}

TEST(Announcer, ColumnsWithoutPositionsGiveSpansWithoutThem) {
  const std::vector<std::uint64_t> requests = {7, 3};
  const std::vector<std::int32_t> starts = {0, 2, 3};
  Bench bench;
  ASSERT_TRUE(bench.announcer.announce(3, {2, requests.data(), starts.data(), nullptr}).record);
  const auto pair = bench.reader.events().at(1).as<moetrace_span_event>();
  EXPECT_EQ(pair.span[0].request, 7u);
  EXPECT_EQ(pair.span[0].first_position, MOETRACE_UNKNOWN_POSITION);
  EXPECT_EQ(pair.span[1].request, 3u);
  EXPECT_EQ(pair.span[1].first_position, MOETRACE_UNKNOWN_POSITION);
  EXPECT_EQ(pair.span[1].first_row, 2u);
}

TEST(Announcer, IsAllOrNothing) {
  Bench bench;  // 64 event slots
  for (int n = 0; n < 31; ++n) ASSERT_TRUE(bench.announcer.announce(1, spans(1)).record);
  const StepBlock lost = bench.announcer.announce(5, spans(3));  // three slots; two are free
  EXPECT_EQ(lost.rows, 5u) << "it counts";
  EXPECT_FALSE(lost.record);
  EXPECT_EQ(lost.step, 31u);
  EXPECT_EQ(bench.events.position(), 62u) << "no part of it was written";
  EXPECT_EQ(bench.host().event_lost, 15u);
  EXPECT_EQ(bench.host().attempted, 31 * 3 + 15u);
  EXPECT_EQ(bench.host().steps, 32u);
  bench.reader.events();
  EXPECT_TRUE(bench.announcer.announce(5, spans(3)).record) << "room again";
  EXPECT_EQ(bench.reader.events().at(0).as<moetrace_step_event>().step, 32u)
      << "a lost step keeps its number";
}

TEST(Announcer, AStepWaitsForItsRequestsEvent) {
  Bench bench;
  for (int n = 0; n < 63; ++n) bench.requests.begin("r", 0, 0);
  bench.requests.begin(std::string(100, 'x'), 0, 0);  // waits for three slots
  EXPECT_FALSE(bench.announcer.announce(1, {}).record)
      << "one slot is free, but the request's event comes first";
  EXPECT_EQ(bench.host().event_lost, 3u);
}

TEST(Announcer, MoreSpansThanAGroupHoldsAreLostWhole) {
  SegmentSizes sizes = kSmallSizes;
  sizes.event_slots = 1 << 17;
  Bench bench(small_header(), sizes);
  EXPECT_FALSE(bench.announcer.announce(1, spans(2 * 65535)).record);
  EXPECT_EQ(bench.events.position(), 0u);
  EXPECT_TRUE(bench.announcer.announce(1, spans(2 * 65534)).record) << "65535 slots";
  EXPECT_EQ(bench.reader.events().at(0).slots, 65535u);
}

TEST(Announcer, SamplesEveryNth) {
  moetrace_ring_header header = small_header();
  header.sample_every = 3;
  Bench bench(header);
  for (int n = 0; n < 7; ++n) EXPECT_EQ(bench.announcer.announce(2, {}).record, n % 3 == 0) << n;
  const auto steps = bench.reader.events_of<moetrace_step_event>(MOETRACE_EVENT_STEP);
  ASSERT_EQ(steps.size(), 7u) << "every announced step has its event";
  EXPECT_EQ(steps[0].layers, 3u);
  EXPECT_EQ(steps[1].layers, 0u) << "it only counts";
  EXPECT_EQ(bench.host().attempted, 3 * 2 * 3u);
}

TEST(Announcer, CountsOnlyWithASampleOfZero) {
  moetrace_ring_header header = small_header();
  header.sample_every = 0;
  Bench bench(header);
  const StepBlock block = bench.announcer.announce(2, {});
  EXPECT_FALSE(block.record);
  EXPECT_EQ(block.rows, 2u);
  EXPECT_EQ(count_layers(block.layers), 3u);
  EXPECT_EQ(bench.host().attempted, 0u);
}

TEST(Announcer, FollowsTheControlWordsWithAnEvent) {
  Bench bench;
  bench.announcer.announce(1, {});
  write_control(bench.map(), {true, 2, {{0b110, 0, 0, ~0ull}}});
  const StepBlock block = bench.announcer.announce(1, {});
  EXPECT_FALSE(block.record) << "step 1 of every second";
  EXPECT_EQ(format_layers(block.layers), "1-2") << "only layers that call the hook";
  const auto slots = bench.reader.events();
  ASSERT_EQ(slots.size(), 3u);
  EXPECT_EQ(slots[1].kind, MOETRACE_EVENT_CONTROL) << "before the step to which it applies";
  const auto control = slots[1].as<moetrace_control_event>();
  EXPECT_EQ(control.from_step, 1u);
  EXPECT_EQ(control.enabled, 1u);
  EXPECT_EQ(control.sample_every, 2u);
  EXPECT_EQ(format_layers(control.layers), "1-2");
  bench.announcer.announce(1, {});
  EXPECT_EQ(bench.reader.events().size(), 1u) << "one event a change";
}

TEST(Announcer, AnUnchangedControlGetsNoEvent) {
  Bench bench;
  write_control(bench.map(), {true, 1, small_header().layers_logged});
  bench.announcer.announce(1, {});
  EXPECT_EQ(bench.reader.events().size(), 1u);
}

TEST(Announcer, AChangeBeforeTheFirstStepIsSeen) {
  TestDirectory directory;
  auto segment = ProducerSegment::create(directory.path(), "default", small_header(), kSmallSizes);
  ASSERT_TRUE(segment);
  // After the segment's name appeared, and before the announcer exists.
  write_control(segment->map(), {true, 1, {{0b010, 0, 0, 0}}});
  EventWriter events(segment->map().event_ring(), 64);
  RequestTable requests(segment->map(), events);
  Announcer announcer(segment->map(), events, requests);
  EXPECT_EQ(format_layers(announcer.announce(1, {}).layers), "1");
}

TEST(Announcer, AnnouncesNothingWhileSwitchedOff) {
  Bench bench;
  write_control(bench.map(), {false, 1, small_header().layers_logged});
  EXPECT_EQ(bench.announcer.announce(4, spans(1)).rows, 0u);
  EXPECT_EQ(bench.host().steps, 0u);
  EXPECT_EQ(bench.host().attempted, 0u);
  const auto slots = bench.reader.events();
  ASSERT_EQ(slots.size(), 1u);
  EXPECT_EQ(slots[0].as<moetrace_control_event>().enabled, 0u);
  write_control(bench.map(), {true, 1, small_header().layers_logged});
  EXPECT_TRUE(bench.announcer.announce(4, spans(1)).record);
}

TEST(Announcer, HalfWrittenControlWordsAreIgnored) {
  Bench bench;
  bench.map().ctl()->control.version = 101;
  bench.map().ctl()->control.enabled = 0;
  EXPECT_TRUE(bench.announcer.announce(1, {}).record);
}

TEST(Announcer, ReplayChoosesItsOwnLayers) {
  Bench bench;
  write_control(bench.map(), {false, 0, {}});
  const StepBlock block = bench.announcer.announce_layers(2, {}, {{0b100, 0, 0, 0}});
  EXPECT_TRUE(block.record);
  EXPECT_EQ(bench.reader.events().at(0).as<moetrace_step_event>().layers, 1u);
  EXPECT_EQ(bench.host().attempted, 2u);
}

TEST(Announcer, ReplayExtendsTheSelection) {
  moetrace_ring_header header = small_header();
  header.layers_logged = {{0b001, 0, 0, 0}};
  Bench bench(header);
  bench.announcer.announce_layers(2, {}, {{0b001, 0, 0, 0}});
  bench.announcer.announce_layers(2, {}, {{0b100, 0, 0, 0}});
  bench.announcer.announce_layers(2, {}, {{0b101, 0, 0, 0}});
  const auto events = bench.reader.events();
  ASSERT_EQ(events.size(), 4u);
  EXPECT_EQ(events[1].as<moetrace_control_event>().layers.words[0], 0b101u);
  EXPECT_EQ(events[1].as<moetrace_control_event>().from_step, 1u);
}

TEST(Announcer, CloseIsSeen) {
  Bench bench;
  EXPECT_EQ(bench.host().closed, 0u);
  bench.announcer.close();
  EXPECT_EQ(bench.host().closed, 1u);
}

}  // namespace
}  // namespace moetrace
