// A collector may die at any instruction: it leaves a trace file cut at any byte, and consumed
// positions below the file's end.
#include "daemon/collector/resume.hpp"

#include <array>

#include "daemon/collector/test_trace.hpp"

namespace moetrace {
namespace {

using nlohmann::json;

class ResumeTest : public testing::Test {
 protected:
  ResumeTest() : producer(*RingProducer::open(test_settings(directory))), name(producer->name()) {}

  // Steps, two requests, drops, a failed pass: every kind of line except `base`.
  void produce_everything() {
    const std::uint64_t first = producer->requests().begin("first", 3, 0);
    run_step(*producer, first, 0, 3);
    const std::uint64_t second = producer->requests().begin(std::string(100, 'x'), 3, 0);
    run_step(*producer, second, 0, 2, 1);
    producer->abort_step();
    producer->requests().end(first, 1, "stop");
    write_control(producer->map(), {true, 1, first_layers(1)});
    // More rows than the ring has room for.
    run_step(*producer, second, 2, 70, 1);
    producer->requests().end(second, 1, "length");
    producer.reset();
  }
  // Two of them stay live.
  void begin_three_requests() {
    for (std::uint64_t& request : requests) request = producer->requests().begin("r", 3, 0);
    for (const std::uint64_t request : requests) run_step(*producer, request, 0, 3);
    producer->requests().end(requests[1], 1, "stop");
  }
  void end_three_requests() {
    run_step(*producer, requests[0], 3, 1);
    run_step(*producer, requests[2], 3, 1);
    producer->requests().end(requests[2], 1, "stop");
    producer.reset();
  }

  // A collector that dies in the middle of a write leaves the file `cut` at any byte; the segment
  // is as it was before any of its rows were consumed.
  void expect_the_same_from_every_cut(const std::string& cut, const std::string& ring,
                                      const std::string& ctl) {
    const std::string whole = read_text(cut);
    expect_conservation(read_lines(cut).back());
    const auto files = count_files();
    for (std::size_t bytes = 0; bytes <= whole.size(); ++bytes) {
      SCOPED_TRACE("cut at " + std::to_string(bytes));
      write_text(ring_path(), ring);
      write_text(ctl_path(), ctl);
      write_text(cut, whole.substr(0, bytes));
      auto collector = attach(directory, name, path);
      ASSERT_TRUE(collector) << collector.error().message;
      const auto state = drain(**collector);
      ASSERT_TRUE(state) << state.error().message;
      ASSERT_EQ(*state, SegmentDrain::State::kEnded);
      ASSERT_EQ(read_text(cut), whole);
      ASSERT_EQ(count_files(), files);
    }
  }
  std::ptrdiff_t count_files() {
    const std::filesystem::directory_iterator files(directory.path());
    return std::distance(begin(files), end(files));
  }

  std::string ring_path() { return directory.file(name.ring_file()); }
  std::string ctl_path() { return directory.file(name.ctl_file()); }

  TestDirectory directory;
  std::string path = directory.file("trace.jsonl");
  std::unique_ptr<RingProducer> producer;
  SegmentName name;
  std::array<std::uint64_t, 3> requests{};
};

TEST_F(ResumeTest, FileCutAtEveryByteComesOutTheSame) {
  produce_everything();
  const std::string ring = read_text(ring_path());
  const std::string ctl = read_text(ctl_path());
  {
    auto collector = attach(directory, name, path);
    ASSERT_TRUE(collector) << collector.error().message;
    ASSERT_EQ(*drain(**collector), SegmentDrain::State::kEnded);
  }
  for (const char* type :
       {"request", "step", "route", "request_end", "control", "loss", "torn", "end"}) {
    EXPECT_FALSE(lines_of(path, type).empty()) << type;
  }
  expect_the_same_from_every_cut(path, ring, ctl);
}

// The first lines of a part name its live requests. A write of these may be cut, too.
TEST_F(ResumeTest, PartCutAtEveryByteComesOutTheSame) {
  begin_three_requests();
  {
    auto collector = attach(directory, name, path);
    ASSERT_TRUE(drain(**collector));
    CollectorOptions options;
    options.output = path;
    const OutputNames names(options, name.trace_id, 0);
    (*collector)->go_on_in(*next_file(names, part_start(producer->map(), name.trace_id)));
    ASSERT_TRUE(drain(**collector));
  }
  const std::string first = read_text(path);
  end_three_requests();
  const std::string ring = read_text(ring_path());
  const std::string ctl = read_text(ctl_path());
  ASSERT_EQ(*drain(**attach(directory, name, path)), SegmentDrain::State::kEnded);
  const std::string second = directory.file("trace.2.jsonl");
  EXPECT_EQ(lines_of(second, "request").size(), 2u);
  expect_the_same_from_every_cut(second, ring, ctl);
  EXPECT_EQ(read_text(path), first);
}

TEST_F(ResumeTest, LateStartCutAtEveryByteComesOutTheSame) {
  begin_three_requests();
  ASSERT_TRUE(drain(**attach(directory, name, path)));
  std::filesystem::remove(path);
  end_three_requests();
  const std::string ring = read_text(ring_path());
  const std::string ctl = read_text(ctl_path());
  ASSERT_EQ(*drain(**attach(directory, name, path)), SegmentDrain::State::kEnded);
  EXPECT_EQ(lines_of(path, "base").size(), 1u);
  EXPECT_EQ(lines_of(path, "request").size(), 2u);
  expect_the_same_from_every_cut(path, ring, ctl);
}

// A live producer. The collector dies after each pass, in half of the cases before it has moved its
// positions.
TEST_F(ResumeTest, NewCollectorAfterEveryPassNeitherLosesNorRepeats) {
  const std::uint64_t request = producer->requests().begin("r0", 1, 0);
  for (std::uint64_t step = 0; step < 40; ++step) {
    run_step(*producer, request, step * 7, 7);
    const moetrace_ctl before = *producer->map().ctl();
    auto collector = attach(directory, name, path);
    ASSERT_TRUE(collector) << collector.error().message;
    ASSERT_TRUE((*collector)->pass());
    if (step % 2 == 0) take_positions_back(producer->map(), before);
  }
  producer->requests().end(request, 1, "stop");
  producer.reset();
  auto collector = attach(directory, name, path);
  ASSERT_TRUE(collector) << collector.error().message;
  ASSERT_EQ(*drain(**collector), SegmentDrain::State::kEnded);
  const auto routes = lines_of(path, "route");
  ASSERT_EQ(routes.size(), 40u * 14);
  for (std::size_t n = 0; n < routes.size(); ++n) {
    EXPECT_EQ(routes[n].at("seq"), n);
    EXPECT_EQ(routes[n].at("req_id"), "r0");
  }
  EXPECT_EQ(lines_of(path, "request").size(), 1u);
  EXPECT_EQ(lines_of(path, "step").size(), 40u);
}

TEST_F(ResumeTest, LostFileStartsLateInTheMiddleOfAStep) {
  const std::uint64_t request = producer->requests().begin("long", 5, 0);
  run_step(*producer, request, 0, 5);
  // A step with its first layer only.
  const moetrace_span span{request, 5, 0, 4};
  producer->begin_step(4, {&span, 1});
  const std::vector<std::int32_t> ids(8, 1);
  const std::vector<float> weights(8, .5f);
  producer->hook().record(0, ids.data(), MOETRACE_INT32, weights.data(), MOETRACE_FLOAT32, 4);
  {
    auto collector = attach(directory, name, path);
    ASSERT_TRUE(drain(**collector));
    EXPECT_EQ(lines_of(path, "route").size(), 14u);
  }
  std::filesystem::remove(path);
  producer->hook().record(1, ids.data(), MOETRACE_INT32, weights.data(), MOETRACE_FLOAT32, 4);
  run_step(*producer, request, 9, 1);
  producer.reset();
  auto collector = attach(directory, name, path);
  ASSERT_TRUE(collector) << collector.error().message;
  ASSERT_EQ(*drain(**collector), SegmentDrain::State::kEnded);
  const auto lines = read_lines(path);
  EXPECT_EQ(lines[0].at("type"), "meta");
  EXPECT_EQ(lines[1].at("type"), "base");
  EXPECT_EQ(lines[1].at("seq"), 14);
  EXPECT_EQ(lines[1].at("step"), 1);
  EXPECT_EQ(lines[1].at("open"), 4);
  EXPECT_EQ(lines[2].at("type"), "request");
  EXPECT_EQ(lines[2].at("req_id"), "long");
  EXPECT_TRUE(lines[2].at("event").is_null());
  EXPECT_EQ(lines[3].at("type"), "route");
  EXPECT_EQ(lines[3].at("req_id"), "long");
  EXPECT_EQ(lines[3].at("token_idx"), 5);
  const json& end = lines.back();
  EXPECT_EQ(end.at("attempted"), 6);
  EXPECT_EQ(end.at("delivered"), 6);
  expect_conservation(end);
}

// A foreign file has the name: the trace gets the next name.
TEST_F(ResumeTest, FileOfAnotherIsLeftAlone) {
  const std::string second = directory.file("trace.2.jsonl");
  for (const std::string text : {"important notes\n", "no newline", "{\"type\":\"meta\"}\n",
                                 "{\"type\":\"meta\",\"trace_id\":\"another\"}\n"}) {
    write_text(path, text);
    std::filesystem::remove(second);
    const auto collector = attach(directory, name, path);
    ASSERT_TRUE(collector) << collector.error().message;
    EXPECT_EQ(read_text(path), text);
    EXPECT_EQ((*collector)->file().path(), second);
  }
}

// A file that has lost its end stays unchanged, and a new part begins where the ledger says.
TEST_F(ResumeTest, FileThatLostItsEndIsFollowedByAPart) {
  const std::uint64_t request = producer->requests().begin("r0", 1, 0);
  run_step(*producer, request, 0, 5);
  {
    auto collector = attach(directory, name, path);
    ASSERT_TRUE(drain(**collector));
  }
  std::string text = read_text(path);
  text.resize(text.rfind("{\"type\":\"route\""));
  write_text(path, text);
  run_step(*producer, request, 5, 3);
  producer.reset();
  auto collector = attach(directory, name, path);
  ASSERT_TRUE(collector) << collector.error().message;
  ASSERT_EQ(*drain(**collector), SegmentDrain::State::kEnded);
  EXPECT_EQ(read_text(path), text);
  const auto lines = read_lines(directory.file("trace.2.jsonl"));
  EXPECT_EQ(lines[1].at("type"), "part");
  EXPECT_EQ(lines[1].at("part"), 2);
  EXPECT_EQ(lines[1].at("seq"), 10);
  EXPECT_EQ(lines.back().at("delivered"), 6);
  expect_conservation(lines.back());
}

TEST_F(ResumeTest, FileWithALineThatCannotBeIsFollowedByAPart) {
  const std::uint64_t request = producer->requests().begin("r0", 1, 0);
  run_step(*producer, request, 0, 5);
  {
    auto collector = attach(directory, name, path);
    ASSERT_TRUE(drain(**collector));
  }
  const std::string good = read_text(path);
  const char* const bad[] = {
      "not JSON\n",
      "{\"type\":\"route\",\"seq\":18446744073709551615}\n",
      "{\"type\":\"route\",\"seq\":3}\n",
      "{\"type\":\"torn\",\"first_seq\":99,\"count\":18446744073709551615}\n",
      "{\"type\":\"torn\",\"first_seq\":null,\"count\":-1}\n",
      "{\"type\":\"loss\",\"dropped_total\":1,\"event_lost_total\":2}\n",
      "{\"type\":\"step\",\"seq\":11,\"attempted_total\":1,\"delivered_total\":"
      "18446744073709551615,"
      "\"filtered_total\":9,\"event_lost_total\":0,\"dropped_total\":0,\"torn_total\":0}\n",
  };
  for (const char* line : bad) {
    std::filesystem::remove(directory.file("trace.2.jsonl"));
    write_text(path, good + line);
    auto collector = attach(directory, name, path);
    ASSERT_TRUE(collector) << line << collector.error().message;
    EXPECT_EQ((*collector)->part(), 2u) << line;
    EXPECT_EQ(read_text(path), good + line);
  }
}

}  // namespace
}  // namespace moetrace
