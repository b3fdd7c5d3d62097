// A trace in several files: each is valid alone, and together they equal one file.
#include "daemon/collector/test_trace.hpp"

namespace moetrace {
namespace {

using nlohmann::json;
using State = SegmentDrain::State;

class PartsTest : public testing::Test {
 protected:
  PartsTest() : producer(*RingProducer::open(test_settings(directory))), name(producer->name()) {}

  std::unique_ptr<SegmentDrain> attached() {
    auto made = attach(directory, name, path);
    EXPECT_TRUE(made) << made.error().message;
    return std::move(*made);
  }
  TraceFile next() {
    CollectorOptions options;
    options.output = path;
    auto file = next_file(OutputNames(options, name.trace_id, 0), next_start);
    EXPECT_TRUE(file) << file.error().message;
    return std::move(*file);
  }
  std::string part_path(std::uint64_t part) {
    return part == 1 ? path : directory.file("trace." + std::to_string(part) + ".jsonl");
  }

  // The parts, first part first, must be one trace: each begins where the part before ends.
  std::vector<json> expect_chain(std::uint64_t parts) {
    std::vector<json> whole;
    json before;
    for (std::uint64_t part = 1; part <= parts; ++part) {
      const auto lines = read_lines(part_path(part));
      EXPECT_EQ(lines.front().at("type"), "meta");
      const json& end = lines.back();
      EXPECT_EQ(end.at("type"), "end");
      expect_conservation(end);
      EXPECT_EQ(end.at("status"), part == parts ? "closed" : "continued");
      std::size_t first = 1;
      if (part > 1) {
        const json& start = lines[first++];
        EXPECT_EQ(start.at("type"), "part");
        EXPECT_EQ(start.at("part"), part);
        EXPECT_EQ(start.at("open"), before.at("open"));
        while (lines[first].at("type") == "request" && lines[first].at("event").is_null()) ++first;
      } else {
        whole.push_back(lines.front());
      }
      before = end;
      whole.insert(whole.end(), lines.begin() + static_cast<std::ptrdiff_t>(first),
                   lines.end() - (part == parts ? 0 : 1));
    }
    return whole;
  }

  void produce(std::uint64_t request, std::uint64_t position, std::uint32_t rows) {
    const std::uint64_t other = producer->requests().begin("short", 1, 0);
    run_step(*producer, request, position, rows);
    producer->requests().end(other, 1, "stop");
  }

  TestDirectory directory;
  std::string path = directory.file("trace.jsonl");
  std::unique_ptr<RingProducer> producer;
  SegmentName name;
  PartStart next_start = part_start(producer->map(), name.trace_id);
};

// A part may end after any step, with dropped and torn rows in between.
TEST_F(PartsTest, PartsAreWhatOneFileWouldBe) {
  const std::uint64_t request = producer->requests().begin("long", 9, 0);
  auto collector = attached();
  std::uint64_t parts = 1;
  for (std::uint64_t step = 0; step < 12; ++step) {
    // Step 5 has more rows than the ring holds.
    produce(request, step * 8, step == 5 ? 70 : 8);
    ASSERT_TRUE(drain(*collector));
    EXPECT_TRUE(collector->has_lines());
    if (step % 3 == 2) {
      ASSERT_TRUE(collector->can_change_file());
      collector->go_on_in(next());
      ASSERT_TRUE(drain(*collector));
      EXPECT_FALSE(collector->has_lines()) << "a part with nothing in it is not cut again";
      ++parts;
    }
  }
  producer.reset();
  ASSERT_EQ(*drain(*collector), State::kEnded);
  const auto whole = expect_chain(parts);
  std::uint64_t routes = 0;
  std::uint64_t steps = 0;
  for (const json& line : whole) {
    routes += line.at("type") == "route";
    if (line.at("type") == "step") {
      EXPECT_EQ(line.at("step"), steps++);
    }
  }
  EXPECT_EQ(steps, 12u);
  EXPECT_EQ(routes, collector->totals().delivered());
  EXPECT_GT(collector->totals().dropped(), 0u);
  EXPECT_EQ(collector->end()->totals.delivered(), routes);
}

// A new collector after every pass, in half of the cases before the old one moved its positions,
// and a new part now and then: a collector may die at any instruction.
TEST_F(PartsTest, NewCollectorsGoOnInTheLastPart) {
  const std::uint64_t request = producer->requests().begin("long", 1, 0);
  std::uint64_t parts = 1;
  for (std::uint64_t step = 0; step < 60; ++step) {
    produce(request, step * 7, 7);
    const moetrace_ctl before = *producer->map().ctl();
    auto collector = attached();
    EXPECT_EQ(collector->part(), parts);
    ASSERT_TRUE(collector->pass());
    if (step % 5 == 4) {
      collector->go_on_in(next());
      ++parts;
      // It dies before, during and after the change of file.
      for (std::uint64_t passes = step % 3; passes > 0; --passes) ASSERT_TRUE(collector->pass());
      if (step % 3 == 0) --parts;
    }
    if (step % 2 == 0) take_positions_back(producer->map(), before);
  }
  producer->requests().end(request, 1, "stop");
  producer.reset();
  auto collector = attached();
  ASSERT_EQ(*drain(*collector), State::kEnded);
  std::uint64_t seq = 0;
  for (const json& line : expect_chain(collector->part())) {
    if (line.at("type") == "route") {
      EXPECT_EQ(line.at("seq"), seq++);
    }
  }
  EXPECT_EQ(seq, 60u * 14);
}

TEST_F(PartsTest, PartMayBeginInTheMiddleOfAStep) {
  const std::uint64_t request = producer->requests().begin("long", 5, 0);
  const moetrace_span span{request, 5, 0, 4};
  producer->begin_step(4, {&span, 1});
  const std::vector<std::int32_t> ids(8, 1);
  const std::vector<float> weights(8, .5f);
  producer->hook().record(0, ids.data(), MOETRACE_INT32, weights.data(), MOETRACE_FLOAT32, 4);
  auto collector = attached();
  ASSERT_TRUE(drain(*collector));
  collector->go_on_in(next());
  ASSERT_TRUE(drain(*collector));
  producer->hook().record(1, ids.data(), MOETRACE_INT32, weights.data(), MOETRACE_FLOAT32, 4);
  producer.reset();
  ASSERT_EQ(*drain(*collector), State::kEnded);
  const auto first = read_lines(part_path(1));
  EXPECT_EQ(first.back().at("attempted"), 4);
  EXPECT_EQ(first.back().at("open"), 4);
  const auto second = read_lines(part_path(2));
  EXPECT_EQ(second[1].at("step"), 0);
  EXPECT_EQ(second[2].at("req_id"), "long");
  EXPECT_EQ(second[3].at("token_idx"), 5);
  EXPECT_EQ(second.back().at("attempted"), 4);
  expect_chain(2);
}

// Rows still in the ring are written to the next file; the others are lost and counted.
TEST_F(PartsTest, RemovedAndCutFilesAreReplaced) {
  const std::uint64_t request = producer->requests().begin("long", 5, 0);
  auto collector = attached();
  run_step(*producer, request, 0, 5);
  ASSERT_TRUE(drain(*collector));
  std::uint64_t lost = 10;
  std::uint64_t position = 5;
  const auto lose = [&](const char* how) {
    SCOPED_TRACE(how);
    run_step(*producer, request, position, 3);
    position += 3;
    ASSERT_EQ(*collector->pass(), State::kFileLost);
    EXPECT_FALSE(collector->can_change_file());
    ASSERT_EQ(*collector->pass(), State::kFileLost) << "until it is given another one";
    if (!collector->go_on_in_emptied_file()) collector->replace_file(next());
    ASSERT_TRUE(drain(*collector));
    EXPECT_EQ(collector->lost_rows(), lost);
    const auto lines = read_lines(collector->file().path());
    EXPECT_EQ(lines[1].at("type"), "part");
    EXPECT_EQ(lines[1].at("delivered_total"), lost);
    EXPECT_EQ(lines[2].at("req_id"), "long");
    EXPECT_EQ(lines.back().at("seq"), lost + 5);
    lost += 6;
  };
  std::filesystem::remove(path);
  lose("removed");
  EXPECT_EQ(collector->file().path(), path);
  std::filesystem::resize_file(path, 0);
  lose("emptied");
  EXPECT_EQ(collector->file().path(), path);
  std::filesystem::resize_file(path, read_text(path).rfind("{\"type\":\"route\""));
  lose("cut");
  EXPECT_EQ(collector->file().path(), part_path(2));
  write_text(part_path(2), read_text(part_path(2)) + "from another program\n");
  lose("written to");
  EXPECT_EQ(collector->file().path(), part_path(3));
  producer.reset();
  for (int passes = 0; passes < 1000 && !collector->end(); ++passes) {
    ASSERT_TRUE(collector->pass());
  }
  std::filesystem::remove(part_path(3));
  ASSERT_EQ(*drain(*collector), State::kFileLost) << "with the end line in it";
  collector->replace_file(next());
  ASSERT_EQ(*drain(*collector), State::kEnded);
  EXPECT_EQ(read_lines(part_path(3)).back().at("status"), "closed");
  expect_conservation(read_lines(part_path(3)).back());
}

// Two traces with one output, at one instant: each gets a file, also if an empty one exists.
TEST_F(PartsTest, FileBelongsToOneTrace) {
  auto other_producer = *RingProducer::open(test_settings(directory));
  const SegmentName other_name = other_producer->name();
  write_text(path, "");
  const auto first = attached();
  const auto other = attach(directory, other_name, path);
  ASSERT_TRUE(other) << other.error().message;
  EXPECT_EQ(first->file().path(), path);
  EXPECT_EQ((*other)->file().path(), part_path(2));
}

TEST_F(PartsTest, FilesThatCannotBeListedAreNotTakenForNone) {
  const auto files_of = [&](const std::string& output) {
    CollectorOptions options;
    options.output = output;
    return trace_files(OutputNames(options, name.trace_id, 0), name.trace_id);
  };
  run_step(*producer, producer->requests().begin("r", 1, 0), 0, 1);
  ASSERT_TRUE(drain(*attached()));
  EXPECT_EQ(*files_of(path), std::vector<std::string>{path});
  EXPECT_FALSE(files_of(path + "/trace.jsonl")) << "its folder is a file";
}

}  // namespace
}  // namespace moetrace
