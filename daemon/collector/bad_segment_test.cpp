// A segment that contradicts itself: its trace ends as "bad segment", with the checked lines.
#include <functional>

#include "daemon/collector/segment_drain.hpp"
#include "daemon/collector/test_trace.hpp"

namespace moetrace {
namespace {

using nlohmann::json;
using State = SegmentDrain::State;

class BadSegmentTest : public testing::Test {
 protected:
  void open(const SegmentSizes& sizes = {64, 64, 4}) {
    Settings settings = test_settings(directory);
    settings.sizes = sizes;
    producer = *RingProducer::open(settings);
    name = producer->name();
    request = producer->requests().begin("r0", 1, 0);
  }
  std::unique_ptr<SegmentDrain> attached() { return std::move(*attach(directory, name, path)); }
  template <class T = moetrace_route_head>
  T* route(std::uint64_t slot) {
    return reinterpret_cast<T*>(producer->map().route_ring().slot(slot));
  }
  template <class T>
  T* event(std::uint64_t slot) {
    return reinterpret_cast<T*>(producer->map().event_ring().slot(slot));
  }

  // Drains the bad segment: one error, an end that keeps conservation, and no line after it.
  json expect_bad(const std::string& why) {
    auto collector = attached();
    auto state = drain(*collector);
    EXPECT_FALSE(state) << why;
    if (state) return {};
    EXPECT_EQ(state.error().code, ErrorCode::kBadSegment);
    EXPECT_NE(state.error().message.find(why), std::string::npos) << state.error().message;
    const json end = read_lines(path).back();
    EXPECT_EQ(end.at("type"), "end") << why;
    EXPECT_EQ(end.at("status"), "bad segment");
    EXPECT_TRUE(end.at("cost").at("hook_ns").is_null());
    expect_conservation(end);
    // The next collector changes neither file nor segment.
    collector.reset();
    const std::string text = read_text(path);
    const std::string ctl = read_text(directory.file(name.ctl_file()));
    const auto again = attach(directory, name, path);
    EXPECT_FALSE(again);
    EXPECT_EQ(read_text(path), text);
    EXPECT_EQ(read_text(directory.file(name.ctl_file())), ctl);
    EXPECT_EQ(list_segments(directory.path(), "default")->size(), 1u);
    return end;
  }
  // The same for a new segment with two good passes of three rows, after `spoil` has changed it.
  json expect_bad(const std::string& why, const std::function<void()>& spoil) {
    SCOPED_TRACE(why);
    producer.reset();
    for (const auto& file : directory.files()) std::filesystem::remove(directory.file(file));
    open();
    run_step(*producer, request, 0, 3);
    run_step(*producer, request, 3, 3);
    spoil();
    return expect_bad(why);
  }

  TestDirectory directory;
  std::string path = directory.file("trace.jsonl");
  std::unique_ptr<RingProducer> producer;
  SegmentName name;
  std::uint64_t request = 0;
};

TEST_F(BadSegmentTest, RoutesThatCannotBe) {
  expect_bad("not announced", [&] { route(0)->step = 77; });
  expect_bad("not selected", [&] { route(3)->layer = kTestLayers; });
  expect_bad("a route of row 9", [&] { route(2)->row = 9; });
  // Row 1 comes twice. The rows before are delivered, the other announced rows are torn.
  const json end = expect_bad("after those that follow it", [&] { route(5)->row = 1; });
  EXPECT_EQ(end.at("attempted"), 6);
  EXPECT_EQ(end.at("delivered"), 5);
  EXPECT_EQ(end.at("torn"), 1);
  expect_bad("after those that follow it", [&] {
    for (const std::uint64_t slot : {0, 1, 2}) route(slot)->layer = 1;
    for (const std::uint64_t slot : {3, 4, 5}) route(slot)->layer = 0;
  });
  expect_bad("one layer more", [&] {
    event<moetrace_step_event>(1)->layers = 1;
    *route(1) = {2, 0, 0, 1, 0};
  });
  expect_bad("a step that is over", [&] { route(6)->step = 0; });
}

TEST_F(BadSegmentTest, AnIdPastItsLayersTopK) {
  Settings settings = test_settings(directory);
  settings.layers.resize(kTestLayers);
  settings.layers[1].top_k = 1;
  producer = *RingProducer::open(settings);
  name = producer->name();
  request = producer->requests().begin("r0", 1, 0);
  run_step(*producer, request, 0, 3);
  EXPECT_EQ(route<moetrace_route_record>(4)->expert[1], MOETRACE_NO_EXPERT);
  route<moetrace_route_record>(4)->expert[1] = 0;
  const json end = expect_bad("a route of layer 1 with an id past its top-k");
  EXPECT_EQ(end.at("delivered"), 4);
  EXPECT_EQ(end.at("torn"), 2);
}

TEST_F(BadSegmentTest, EventsThatCannotBe) {
  // Slots: 0 the request, 1 and 2 step 0 with its span, 3 and 4 step 1.
  expect_bad("step 0 where 1", [&] { event<moetrace_step_event>(3)->step = 0; });
  expect_bad("layers", [&] { event<moetrace_step_event>(3)->layers = kTestLayers + 1; });
  expect_bad("time", [&] { event<moetrace_step_event>(3)->time_ns = -1; });
  expect_bad("end after its rows", [&] { event<moetrace_span_event>(4)->span[0].rows = 4; });
  expect_bad("end after its rows", [&] { event<moetrace_span_event>(4)->span[0].first_row = 1; });
  expect_bad("position", [&] { event<moetrace_span_event>(4)->span[0].first_position = -5ull; });
  const auto add_step = [&](std::initializer_list<moetrace_span> spans) {
    return [&, spans = std::vector(spans)] { producer->begin_step(9, spans); };
  };
  expect_bad("overlap", add_step({{request, 9, 0, 3}, {request, 20, 2, 3}}));
  expect_bad("a token twice", add_step({{request, 9, 0, 3}, {request, 11, 3, 3}}));
  expect_bad("request 0 where 1", [&] {
    producer->requests().begin("r1", 1, 0);
    event<moetrace_request_event>(5)->request = 0;
  });
  expect_bad("a change", [&] {
    write_control(producer->map(), {true, 1, first_layers(1)});
    run_step(*producer, request, 6, 1, 1);
    event<moetrace_control_event>(5)->from_step = 1;
  });
  expect_bad("no experts", [&] {
    write_control(producer->map(), {true, 1, first_layers(1)});
    run_step(*producer, request, 6, 1, 1);
    add_layer(event<moetrace_control_event>(5)->layers, kTestLayers);
  });
}

TEST_F(BadSegmentTest, SpansOfNoRowsAreNothing) {
  open();
  const moetrace_span spans[] = {{request, 0, 1, 0}, {request, 5, 1, 1}, {request, 0, 0, 0}};
  producer->begin_step(2, spans);
  const std::vector<std::int32_t> ids(4, 1);
  producer->hook().record(0, ids.data(), MOETRACE_INT32, nullptr, MOETRACE_FLOAT32, 2);
  producer.reset();
  const auto collector = attached();
  ASSERT_TRUE(drain(*collector));
  const auto routes = lines_of(path, "route");
  ASSERT_EQ(routes.size(), 2u);
  EXPECT_EQ(routes[1].at("token_idx"), 5);
}

TEST_F(BadSegmentTest, CountersThatCannotBe) {
  moetrace_state* state = nullptr;
  const auto with_state = [&](const std::function<void()>& change) {
    return [&, change] {
      state = producer->map().state();
      change();
    };
  };
  // Of the two snapshots, number 2 is the newer one.
  expect_bad("more drops", with_state([&] { state->snapshots[0].dropped = 10; }));
  expect_bad("more than a ring", with_state([&] { state->snapshots[0].claimed = 65; }));
  expect_bad("more than a ring", with_state([&] { state->published.routes = ~0ull; }));
  expect_bad("more lost", with_state([&] { state->host.event_lost = ~0ull - 9; }));
  expect_bad("more lost", with_state([&] { state->host.event_lost = 1ull << 61; }));
  // More slots than records: nine would be torn, and none of the nine was announced.
  expect_bad("more reserved slots", with_state([&] {
               state->snapshots[0].claimed = 21;
               producer.reset();
             }));
}

TEST_F(BadSegmentTest, ConsumedPositionsAndLedgersThatCannotBe) {
  const auto drained = [&](const std::function<void(moetrace_ctl*)>& change, bool file_is_there) {
    return [&, change, file_is_there] {
      EXPECT_TRUE(drain(*attached()));
      if (!file_is_there) std::filesystem::remove(path);
      change(producer->map().ctl());
    };
  };
  for (const bool file_is_there : {false, true}) {
    expect_bad("consumed positions",
               drained([](moetrace_ctl* ctl) { ctl->event_consumed = ~0ull; }, file_is_there));
  }
  const auto newest = [](moetrace_ctl* ctl) {
    return ctl->ledger + (ctl->ledger[1].number > ctl->ledger[0].number ? 1 : 0);
  };
  expect_bad("a ledger", drained([&](moetrace_ctl* ctl) { newest(ctl)->attempted = 11; }, false));
  expect_bad("a ledger", drained([&](moetrace_ctl* ctl) { newest(ctl)->unclaimed = 1; }, false));
  expect_bad("a ledger", drained([&](moetrace_ctl* ctl) { newest(ctl)->dropped = ~0ull; }, false));
  expect_bad("a ledger", drained([&](moetrace_ctl* ctl) { newest(ctl)->route = 80; }, false));
}

// Only the consumed position shows filtered rows, and any user of the group can write it.
TEST_F(BadSegmentTest, FilteredRowsThatWereNotAnnounced) {
  open();
  run_step(*producer, request, 0, 3);
  ASSERT_TRUE(drain(*attached()));
  moetrace_ctl* ctl = producer->map().ctl();
  ctl->route_consumed = 7;
  for (moetrace_ledger& ledger : ctl->ledger) ledger.filtered = 1;
  const auto collector = attach(directory, name, path, first_layers(1));
  ASSERT_TRUE(collector);
  EXPECT_FALSE(drain(**collector));
  expect_conservation(read_lines(path).back());
}

TEST_F(BadSegmentTest, CutRingFileIsAnErrorAndNoSignal) {
  open();
  run_step(*producer, request, 0, 3);
  const auto collector = attached();
  ASSERT_TRUE(drain(*collector));
  std::filesystem::resize_file(directory.file(name.ring_file()), 4096);
  const auto state = drain(*collector);
  ASSERT_FALSE(state);
  EXPECT_EQ(state.error().code, ErrorCode::kBadSegment);
  const json end = read_lines(path).back();
  EXPECT_EQ(end.at("status"), "bad segment");
  EXPECT_EQ(end.at("delivered"), 6);
  expect_conservation(end);
  std::filesystem::resize_file(directory.file(name.ring_file()),
                               producer->map().header().ring_bytes);
}

// They have no line: only the consumed position tells a restarted collector of them.
TEST_F(BadSegmentTest, RowsThatWereFilteredBeforeARestartAreNotTorn) {
  open();
  run_step(*producer, request, 0, 3);
  ASSERT_TRUE(drain(**attach(directory, name, path, first_layers(1))));
  const auto collector = attach(directory, name, path, first_layers(1));
  ASSERT_TRUE(collector);
  std::filesystem::resize_file(directory.file(name.ring_file()), 4096);
  ASSERT_FALSE(drain(**collector));
  const json end = read_lines(path).back();
  EXPECT_EQ(end.at("status"), "bad segment");
  EXPECT_EQ(end.at("filtered"), 3);
  EXPECT_EQ(end.at("torn"), 0);
  expect_conservation(end);
  std::filesystem::resize_file(directory.file(name.ring_file()),
                               producer->map().header().ring_bytes);
}

// Writes lap after lap of events and ignores the consumed position.
TEST_F(BadSegmentTest, ProducerThatDoesNotWaitForTheEventRing) {
  open();
  const auto collector = attached();
  const auto write_lap = [&](std::uint64_t lap) {
    for (std::uint64_t slot = lap * 64; slot < (lap + 1) * 64; ++slot) {
      moetrace_request_event request_event{};
      request_event.commit = {static_cast<std::uint32_t>(slot + 1), MOETRACE_EVENT_REQUEST, 0, 1};
      request_event.request = slot;
      std::memcpy(event<void>(slot), &request_event, sizeof request_event);
    }
  };
  write_lap(0);
  ASSERT_TRUE(collector->pass());
  write_lap(1);
  const auto state = drain(*collector);
  ASSERT_FALSE(state);
  EXPECT_NE(state.error().message.find("more than a ring"), std::string::npos);
}

// Another segment is served in time.
TEST_F(BadSegmentTest, OnePassIsBounded) {
  open({64, 1 << 14, 4});
  write_control(producer->map(), {true, 0, first_layers(kTestLayers)});
  for (int n = 0; n < 8000; ++n) producer->begin_step(1, {});
  producer.reset();
  const auto collector = attached();
  std::size_t passes = 0;
  std::uint64_t bytes = 0;
  std::optional<State> state;
  while (state != State::kEnded) {
    state = *collector->pass();
    const std::uint64_t more = std::filesystem::file_size(path) - bytes;
    EXPECT_LT(more, 512u << 10) << passes;
    bytes += more;
    ++passes;
  }
  EXPECT_EQ(lines_of(path, "step").size(), 8000u);
  EXPECT_GT(passes, 7u);
}

TEST_F(BadSegmentTest, RequestsThatNeverEnd) {
  open({64, 1024, 4});
  const auto collector = attached();
  run_step(*producer, request, 0, 1);
  const std::string id(200, 'x');
  std::uint64_t newest = 0;
  std::string said;
  for (int n = 0; n < 20'000; ++n) {
    newest = producer->requests().begin(id, 1, 0);
    if (n % 100 == 0) {
      ASSERT_TRUE(drain(*collector));
      said += collector->take_warning();
    }
  }
  // Printed once.
  EXPECT_NE(said.find("never end"), std::string::npos) << said;
  EXPECT_EQ(said.find("never end"), said.rfind("never end"));
  run_step(*producer, request, 1, 1);
  run_step(*producer, newest, 0, 1);
  producer->requests().end(request, 2, "stop");
  producer.reset();
  ASSERT_TRUE(drain(*collector));
  const auto routes = lines_of(path, "route");
  ASSERT_EQ(routes.size(), 6u);
  EXPECT_EQ(routes[0].at("req_id"), "r0");
  EXPECT_TRUE(routes[2].at("req_id").is_null());
  EXPECT_TRUE(routes[2].at("request").is_null());
  EXPECT_EQ(routes[4].at("req_id"), id);
  EXPECT_EQ(lines_of(path, "end").at(0).at("status"), "closed");
  EXPECT_TRUE(lines_of(path, "request_end").empty());
}

}  // namespace
}  // namespace moetrace
