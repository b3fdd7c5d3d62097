#include "daemon/collector/segment_drain.hpp"

#include "daemon/collector/test_trace.hpp"

namespace moetrace {
namespace {

using nlohmann::json;
using State = SegmentDrain::State;

class SegmentDrainTest : public testing::Test {
 protected:
  void open(std::uint64_t route_slots = 64) {
    producer = *RingProducer::open(test_settings(directory, route_slots));
    name = producer->name();
  }
  std::unique_ptr<SegmentDrain> attached(const moetrace_layer_mask& filter = kEveryLayer) {
    auto made = attach(directory, name, path, filter);
    EXPECT_TRUE(made) << made.error().message;
    return std::move(*made);
  }
  // Closes the producer and drains to the end.
  json finish(SegmentDrain& collector) {
    producer.reset();
    const auto state = drain(collector);
    EXPECT_TRUE(state && *state == State::kEnded);
    const json end = read_lines(path).back();
    EXPECT_EQ(end.at("type"), "end");
    expect_conservation(end);
    EXPECT_TRUE(segments_left().empty());
    return end;
  }
  std::vector<SegmentName> segments_left() { return *list_segments(directory.path(), "default"); }
  std::uint64_t consumed() { return producer->map().ctl()->route_consumed; }
  std::uint64_t events_consumed() { return producer->map().ctl()->event_consumed; }

  TestDirectory directory;
  std::string path = directory.file("trace.jsonl");
  std::unique_ptr<RingProducer> producer;
  SegmentName name;
};

TEST_F(SegmentDrainTest, EachLayerHasItsOwnNumberOfIds) {
  Settings settings = test_settings(directory);
  settings.layers.resize(kTestLayers);
  settings.layers[1].top_k = 1;
  settings.layers[1].experts = 4;
  settings.layers[1].flags = MOETRACE_LAYER_ZERO_EXPERTS_KNOWN;
  producer = *RingProducer::open(settings);
  name = producer->name();
  run_step(*producer, producer->requests().begin("r0", 2, 0), 3, 2);
  const auto collector = attached();
  finish(*collector);
  const auto routes = lines_of(path, "route");
  ASSERT_EQ(routes.size(), 4u);
  EXPECT_EQ(routes[0].at("topk_ids"), json({3, 4}));
  EXPECT_EQ(routes[1].at("topk_ids"), json({5, 6}));
  EXPECT_EQ(routes[2].at("topk_ids"), json({3}));
  EXPECT_EQ(routes[2].at("topk_weights").size(), 1u);
  EXPECT_EQ(routes[3].at("topk_ids"), json::array({nullptr})) << "layer 1 has no expert 4";
  const json layers = read_lines(path).front().at("layers");
  ASSERT_EQ(layers.size(), 2u);
  EXPECT_EQ(layers[0].at("top_k"), nullptr);
  EXPECT_EQ(layers[1].at("top_k"), 1);
  EXPECT_EQ(layers[1].at("experts"), 4);
}

// Reserved kinds, and one of a minor version that is not written yet.
TEST_F(SegmentDrainTest, SkipsEventsThatItDoesNotKnow) {
  open();
  const std::uint64_t request = producer->requests().begin("r0", 3, 0);
  run_step(*producer, request, 0, 1);
  const auto write = [&](auto event, auto rest, int head, int continuation) {
    EventWriter& events = producer->events();
    ASSERT_TRUE(events.fits(3));
    const std::uint64_t first = events.claim(3);
    events.write(first, event);
    for (std::uint64_t n = 1; n < 3; ++n) events.write(first + n, rest);
    events.commit(first, 3, static_cast<moetrace_event_kind>(head),
                  static_cast<moetrace_event_kind>(continuation));
  };
  moetrace_tokens_event tokens{};
  tokens.tokens = 9 + 2 * 14;
  write(tokens, moetrace_tokens_more_event{}, MOETRACE_EVENT_TOKENS, MOETRACE_EVENT_TOKENS_MORE);
  run_step(*producer, request, 1, 1);
  moetrace_placement_event placement{};
  placement.slots = 10 + 2 * 14;
  write(placement, moetrace_placement_more_event{}, MOETRACE_EVENT_PLACEMENT,
        MOETRACE_EVENT_PLACEMENT_MORE);
  write(moetrace_text_event{}, moetrace_text_event{}, 200, 201);
  run_step(*producer, request, 2, 1);
  const auto collector = attached();
  const json end = finish(*collector);
  EXPECT_EQ(end.at("delivered"), 6);
  EXPECT_EQ(end.at("status"), "closed");
  EXPECT_EQ(lines_of(path, "step").size(), 3u);
}

TEST_F(SegmentDrainTest, JoinsRowsWithRequestsAndPositions) {
  open();
  const std::uint64_t first = producer->requests().begin("alpha \"quoted\"", 3, 0);
  const std::uint64_t second = producer->requests().begin("beta", 2, 1);
  // Two requests in one pass, the rows of the second one first; row 5 has no request.
  const moetrace_span spans[] = {{first, 0, 2, 3}, {second, 1, 0, 2}};
  producer->begin_step(6, spans);
  const std::vector<std::int64_t> ids = {0, 1, 2, 3, 4, 5, 6, 7, 0, -1, 2, 3};
  const std::vector<float> weights = {.5f,           .25f, .125f, 1e-30f, 1.f, 2.f,
                                      std::nanf(""), 3.f,  .1f,   .2f,    .3f, INFINITY};
  for (std::uint32_t layer = 0; layer < kTestLayers; ++layer) {
    producer->hook().record(layer, ids.data(), MOETRACE_INT64, weights.data(), MOETRACE_FLOAT32, 6);
  }
  producer->requests().end(first, 1, "stop");
  const auto collector = attached();
  const json end = finish(*collector);
  EXPECT_EQ(end.at("delivered"), 12);
  EXPECT_EQ(end.at("status"), "closed");

  const auto routes = lines_of(path, "route");
  ASSERT_EQ(routes.size(), 12u);
  EXPECT_EQ(routes[0].at("req_id"), "beta");
  EXPECT_EQ(routes[0].at("token_idx"), 1);
  EXPECT_EQ(routes[0].at("topk_ids"), json({0, 1}));
  EXPECT_EQ(routes[2].at("req_id"), "alpha \"quoted\"");
  EXPECT_EQ(routes[2].at("token_idx"), 0);
  EXPECT_EQ(routes[3].at("topk_weights"), json({nullptr, 3.0}));
  EXPECT_EQ(routes[4].at("topk_ids"), json({0, nullptr}));
  EXPECT_TRUE(routes[5].at("req_id").is_null());
  EXPECT_TRUE(routes[5].at("token_idx").is_null());
  EXPECT_EQ(routes[5].at("topk_weights")[1], nullptr);
  EXPECT_EQ(routes[6].at("layer"), 1);
  EXPECT_EQ(routes[11].at("seq"), 11);
  const auto ended = lines_of(path, "request_end");
  ASSERT_EQ(ended.size(), 1u);
  EXPECT_EQ(ended[0].at("req_id"), "alpha \"quoted\"");
}

TEST_F(SegmentDrainTest, RowsAtUnknownPositionsHaveTheirRequest) {
  open();
  const std::uint64_t request = producer->requests().begin("alpha", 3, 0);
  const moetrace_span spans[] = {{request, MOETRACE_UNKNOWN_POSITION, 0, 2}, {request, 9, 2, 1}};
  producer->begin_step(3, spans);
  const std::vector<std::int64_t> ids = {0, 1, 2, 3, 4, 5};
  for (std::uint32_t layer = 0; layer < kTestLayers; ++layer)
    producer->hook().record(layer, ids.data(), MOETRACE_INT64, nullptr, MOETRACE_FLOAT32, 3);
  const auto collector = attached();
  finish(*collector);
  const auto routes = lines_of(path, "route");
  ASSERT_EQ(routes.size(), 3u * kTestLayers);
  for (const std::size_t row : {0, 1, 2}) {
    EXPECT_EQ(routes[row].at("req_id"), "alpha");
    EXPECT_EQ(routes[row].at("token_idx"), row < 2 ? json() : json(9)) << row;
  }
}

TEST_F(SegmentDrainTest, TheEndLineSaysWhatTracingCost) {
  open();
  const auto collector = attached();
  run_step(*producer, producer->requests().begin("r0", 1, 0), 0, 1);
  producer->add_cost({1'000'000'000'000, 2'000'000'000'000});
  const json cost = finish(*collector).at("cost");
  EXPECT_GT(cost.at("announce_ns").get<std::uint64_t>(), 1'000'000'000'000u);
  EXPECT_GE(cost.at("hook_ns").get<std::uint64_t>(), 2'000'000'000'000u);
  EXPECT_LT(cost.at("announce_ns").get<std::uint64_t>(), 1'900'000'000'000u);
}

// A consumer that publishes in batches must also publish when it has caught up: otherwise a full
// ring stays full.
TEST_F(SegmentDrainTest, DrainedSlotsAreReleasedToTheProducer) {
  open();
  const std::uint64_t request = producer->requests().begin("r0", 1, 0);
  const auto collector = attached();
  for (int lap = 0; lap < 20; ++lap) {
    // 32 rows x 2 layers fill the ring.
    run_step(*producer, request, static_cast<std::uint64_t>(lap) * 32, 32);
    ASSERT_TRUE(drain(*collector));
    EXPECT_EQ(consumed(), 64u * static_cast<std::uint64_t>(lap + 1));
  }
  EXPECT_EQ(finish(*collector).at("dropped"), 0);
}

TEST_F(SegmentDrainTest, EventSlotsAreReleasedEvenIfEveryRowWasDropped) {
  open(2);
  const std::uint64_t request = producer->requests().begin("r0", 1, 0);
  const auto collector = attached();
  // Far more events than the event ring holds.
  for (std::uint64_t step = 0; step < 500; ++step) {
    run_step(*producer, request, step, 1);
    if (step % 8 == 7) {
      ASSERT_TRUE(drain(*collector));
      // Every step is over, so the ring keeps no event.
      EXPECT_EQ(events_consumed(), producer->events().position());
    }
  }
  const json end = finish(*collector);
  EXPECT_EQ(end.at("attempted"), 1000);
  EXPECT_GT(end.at("dropped").get<int>(), 0);
  EXPECT_EQ(end.at("torn"), 0);
  for (const json& loss : lines_of(path, "loss")) EXPECT_EQ(loss.at("cause"), "ring_full");
}

TEST_F(SegmentDrainTest, AnnouncementsWithoutRoomCountAsDropped) {
  open();
  const std::uint64_t request = producer->requests().begin("r0", 1, 0);
  // Two event slots each; the ring has 64.
  for (std::uint64_t step = 0; step < 100; ++step) run_step(*producer, request, step, 1);
  const auto collector = attached();
  ASSERT_TRUE(drain(*collector));
  run_step(*producer, request, 100, 1);
  const json end = finish(*collector);
  EXPECT_EQ(end.at("attempted"), 202);
  EXPECT_EQ(end.at("torn"), 0);
  const auto losses = lines_of(path, "loss");
  ASSERT_FALSE(losses.empty());
  EXPECT_EQ(losses[0].at("cause"), "event_ring_full");
  EXPECT_EQ(lines_of(path, "step").size() * 2 + losses[0].at("dropped").get<std::size_t>(), 202u);
}

TEST_F(SegmentDrainTest, FailedPassIsTornAndNothingElseIs) {
  open();
  const std::uint64_t request = producer->requests().begin("r0", 1, 0);
  const auto collector = attached();
  run_step(*producer, request, 0, 3);
  // Only one of two layers.
  run_step(*producer, request, 3, 3, 1);
  producer->abort_step();
  ASSERT_TRUE(drain(*collector));
  const auto torn = lines_of(path, "torn");
  ASSERT_EQ(torn.size(), 1u);
  EXPECT_TRUE(torn[0].at("first_seq").is_null());
  EXPECT_EQ(torn[0].at("count"), 3);
  run_step(*producer, request, 6, 3);
  const json end = finish(*collector);
  EXPECT_EQ(end.at("torn"), 3);
  EXPECT_EQ(end.at("delivered"), 15);
}

TEST_F(SegmentDrainTest, HolesOfADeadProducerAreTornAndRowsAfterThemAreDelivered) {
  open();
  const std::uint64_t request = producer->requests().begin("r0", 1, 0);
  run_step(*producer, request, 0, 5);
  // Like a GPU that died between claiming and committing slots 2, 3 and 7.
  for (const std::uint64_t slot : {2u, 3u, 7u}) {
    const std::uint64_t nothing = 0;
    std::memcpy(producer->map().route_ring().slot(slot), &nothing, sizeof nothing);
  }
  const auto collector = attached();
  const json end = finish(*collector);
  EXPECT_EQ(end.at("torn"), 3);
  EXPECT_EQ(end.at("delivered"), 7);
  const auto torn = lines_of(path, "torn");
  ASSERT_EQ(torn.size(), 2u);
  EXPECT_EQ(torn[0].at("first_seq"), 2);
  EXPECT_EQ(torn[0].at("count"), 2);
  EXPECT_EQ(torn[1].at("first_seq"), 7);
}

TEST_F(SegmentDrainTest, SlotsThatADeadGpuDidNotPublishAreTorn) {
  const Settings settings = test_settings(directory);
  moetrace_ring_header header = settings.header;
  header.claimer = MOETRACE_CLAIMER_GPU;
  {
    auto segment = *ProducerSegment::create(directory.path(), "default", header, settings.sizes);
    name = segment.name();
    const SegmentMap& map = segment.map();
    EventWriter events(map.event_ring(), map.header().event_slots);
    RequestTable requests(map, events);
    Announcer announcer(map, events, requests);
    announcer.announce(4, {});
    RingWriter<MappedRing> writer(map.route_ring(), map.header().route_slots);
    // One of two layers; every slot looks valid.
    for (std::uint64_t row = 0; row < 4; ++row) {
      std::memcpy(writer.memory().slot(row) + offsetof(moetrace_route_head, row), &row, sizeof row);
      writer.commit(writer.claim(1), 0);
    }
    map.state()->published.routes = 3;
  }
  const auto collector = attached();
  std::optional<State> state;
  while (state != State::kEnded) state = *collector->pass();
  const json end = read_lines(path).back();
  expect_conservation(end);
  EXPECT_EQ(end.at("delivered"), 3);
  EXPECT_EQ(end.at("torn"), 5);
  EXPECT_EQ(end.at("status"), "producer died");
}

TEST_F(SegmentDrainTest, LeftOutLayersAreFiltered) {
  open();
  const std::uint64_t request = producer->requests().begin("r0", 1, 0);
  moetrace_layer_mask only_second{};
  add_layer(only_second, 1);
  const auto collector = attached(only_second);
  for (std::uint64_t step = 0; step < 10; ++step) {
    run_step(*producer, request, step * 16, 16);
    ASSERT_TRUE(drain(*collector));
    EXPECT_EQ(consumed(), (step + 1) * 32);
  }
  const json end = finish(*collector);
  EXPECT_EQ(end.at("filtered"), 160);
  EXPECT_EQ(end.at("delivered"), 160);
  for (const json& route : lines_of(path, "route")) EXPECT_EQ(route.at("layer"), 1);
}

TEST_F(SegmentDrainTest, CountingStepsAndControlChangesHaveTheirLines) {
  open();
  const std::uint64_t request = producer->requests().begin("r0", 1, 0);
  run_step(*producer, request, 0, 1);
  write_control(producer->map(), {true, 0, first_layers(1)});
  run_step(*producer, request, 1, 1);
  write_control(producer->map(), {true, 1, first_layers(1)});
  run_step(*producer, request, 2, 1, 1);
  const auto collector = attached();
  EXPECT_EQ(finish(*collector).at("delivered"), 3);
  const auto steps = lines_of(path, "step");
  ASSERT_EQ(steps.size(), 3u);
  EXPECT_EQ(steps[0].at("layers"), 2);
  EXPECT_EQ(steps[1].at("layers"), 0);
  EXPECT_EQ(steps[2].at("layers"), 1);
  const auto control = lines_of(path, "control");
  ASSERT_EQ(control.size(), 2u);
  EXPECT_EQ(control[0].at("sample_every"), 0);
  EXPECT_EQ(control[0].at("layers"), json({0}));
  EXPECT_EQ(control[1].at("from_step"), 2);
}

}  // namespace
}  // namespace moetrace
