// The text of blocks, and drains whose rows are made text by several threads.
#include "daemon/collector/line_block.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <set>

#include "daemon/collector/encoders.hpp"
#include "daemon/collector/test_trace.hpp"

namespace moetrace {
namespace {

constexpr std::uint64_t kSlots = 1 << 14;

// A closed trace of several requests, some of which end early, with a full ring: rows are dropped.
SegmentName make_trace(const TestDirectory& directory) {
  Settings settings = test_settings(directory, kSlots);
  settings.sizes.event_slots = 1024;
  auto producer = RingProducer::open(settings);
  EXPECT_TRUE(producer);
  std::uint64_t request = (*producer)->requests().begin("r0", 3, 0);
  std::uint64_t position = 0;
  // Steps of 1 to 300 rows.
  for (std::uint32_t step = 0; step < 120; ++step) {
    const std::uint32_t rows = step % 7 == 0 ? 300 : 1 + step % 150;
    run_step(**producer, request, position, rows);
    position += rows;
    if (step % 10 != 9) continue;
    (*producer)->requests().end(request, position, "stop");
    request = (*producer)->requests().begin("r" + std::to_string(step), 5, 0);
    position = 0;
  }
  return (*producer)->name();
}

struct Drained {
  std::string file;
  std::string published;
};

// A drain of the segment in `directory`, into trace.jsonl there.
std::unique_ptr<SegmentDrain> attached(Encoders* encoders, const std::string& directory,
                                       const SegmentName& name, SegmentDrain::Publish publish) {
  auto segment = CollectorSegment::open(directory, name, CollectorSegment::Access::kCollect);
  EXPECT_TRUE(segment) << segment.error().message;
  CollectorOptions options;
  options.output = directory + "/trace.jsonl";
  const SegmentMap& map = segment->map();
  auto place = place_trace(
      OutputNames(options, name.trace_id, 0),
      {name.trace_id, 1, meta_line(map.header(), map.layers(), name.trace_id), std::nullopt}, {});
  auto drain =
      SegmentDrain::attach(std::move(*segment), std::move(*place),
                           {.layers = kEveryLayer, .encoders = encoders}, std::move(publish));
  EXPECT_TRUE(drain) << drain.error().message;
  return std::move(*drain);
}

// Drains a copy of the segment in a folder `to`.
Drained drain_with(Encoders* encoders, const TestDirectory& directory, const SegmentName& name,
                   const std::string& to) {
  Drained drained;
  const std::string copy = directory.path() + "/" + to;
  std::filesystem::create_directory(copy);
  for (const std::string& file : {name.ring_file(), name.ctl_file()})
    std::filesystem::copy(directory.path() + "/" + file, copy + "/" + file);
  const auto collector = attached(encoders, copy, name, [&](const LineBatch& batch) {
    for (const moetrace::Run& run : batch.runs) drained.published += run.text;
  });
  EXPECT_EQ(*drain(*collector), SegmentDrain::State::kEnded);
  std::ifstream file(copy + "/trace.jsonl");
  drained.file.assign(std::istreambuf_iterator<char>(file), {});
  return drained;
}

TEST(Encoders, SeveralThreadsMakeTheSameFile) {
  const TestDirectory directory;
  const SegmentName name = make_trace(directory);
  const Drained alone = drain_with(nullptr, directory, name, "alone");
  EXPECT_GT(alone.file.size(), kSlots * 100);
  EXPECT_EQ(alone.published, alone.file);
  for (const unsigned threads : {2u, 3u, 7u}) {
    Encoders encoders(threads);
    const Drained shared = drain_with(&encoders, directory, name, std::to_string(threads));
    EXPECT_TRUE(shared.file == alone.file) << threads;
    EXPECT_TRUE(shared.published == alone.file) << threads;
  }
}

// Its rows may have become zeros before their text was made.
TEST(Encoders, ABlockWhoseRingWasCutIsNotWritten) {
  const TestDirectory directory;
  const SegmentName name = make_trace(directory);
  Encoders encoders(2);
  const auto collector = attached(&encoders, directory.path(), name, [](const LineBatch&) {});
  ASSERT_EQ(*collector->pass(), SegmentDrain::State::kBusy);
  EXPECT_GT(collector->totals().delivered(), 0u) << "a block is on its way";
  std::filesystem::resize_file(directory.path() + "/" + name.ring_file(), 4096);
  EXPECT_FALSE(drain(*collector));
  const std::string path = directory.path() + "/trace.jsonl";
  EXPECT_EQ(lines_of(path, "route").size(), 0u);
  const auto ends = lines_of(path, "end");
  ASSERT_EQ(ends.size(), 1u);
  EXPECT_EQ(ends[0].at("status"), "bad segment");
  EXPECT_EQ(ends[0].at("delivered"), 0);
  expect_conservation(ends[0]);
}

// A part must end in the middle of a backlog, too.
TEST(Encoders, WaitingBlocksAreWrittenOnDemand) {
  const TestDirectory directory;
  const SegmentName name = make_trace(directory);
  Encoders encoders(2);
  const auto collector = attached(&encoders, directory.path(), name, [](const LineBatch&) {});
  ASSERT_EQ(*collector->pass(), SegmentDrain::State::kBusy);
  EXPECT_FALSE(collector->can_change_file());
  collector->write_waiting_rows();
  ASSERT_EQ(*collector->pass(), SegmentDrain::State::kBusy);
  EXPECT_TRUE(collector->can_change_file());
  EXPECT_LT(collector->totals().delivered(), kSlots / 2);
}

// A trace's ring, and what it takes to make lines of it.
class RingLines {
 public:
  const SegmentMap& map() const { return segment.map(); }

  TestDirectory directory;
  SegmentName name = make_trace(directory);
  CollectorSegment segment =
      *CollectorSegment::open(directory.path(), name, CollectorSegment::Access::kObserve);
  RouteText text{map().layers()};
  MappedRing ring = map().route_ring();
  RouteOrigin origin = route_origin("\"r\"", 0);
};

std::set<std::string> threads() {
  std::set<std::string> found;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task"))
    found.insert(task.path().filename());
  return found;
}

// Bit n - 1: signal n.
std::uint64_t blocked_signals(const std::string& task) {
  std::ifstream status(task + "/status");
  for (std::string word; status >> word;) {
    if (word != "SigBlk:") continue;
    status >> word;
    return std::stoull(word, nullptr, 16);
  }
  return 0;
}

TEST(Encoders, ARingMayBeCutUnderAnyThread) {
  RingLines of;
  Encoders encoders(3);
  LineBlock block(of.text, of.map(), of.ring);
  for (std::uint64_t n = 0; n < kSlots; n += LineBlock::kRowsAChunk)
    block.add_rows(0, {n, n, &of.origin, LineBlock::kRowsAChunk, 0});
  LineBuffer lines;
  std::vector<moetrace::Run> runs{{true, 0, block.entries(), 0, kSlots, {}, {}}};
  block.close(lines, runs);
  ASSERT_EQ(block.chunks(), kSlots / LineBlock::kRowsAChunk);
  EXPECT_TRUE(of.segment.intact());
  std::filesystem::resize_file(of.directory.path() + "/" + of.name.ring_file(),
                               of.map().header().route_offset + 4096);
  const std::set<std::string> before = threads();
  Encoders::Job job(block);
  encoders.begin(job);
  encoders.finish(job);
  EXPECT_FALSE(of.segment.intact());
  // A thread that blocks SIGBUS would end the process where it reads behind the end.
  std::size_t others = 0;
  for (const std::string& thread : threads()) {
    if (before.contains(thread)) continue;
    std::uint64_t blocked = blocked_signals("/proc/self/task/" + thread);
    // A new thread begins with all of them blocked, before its first instruction of ours.
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while ((blocked >> (SIGBUS - 1) & 1) == 1 && std::chrono::steady_clock::now() < deadline)
      blocked = blocked_signals("/proc/self/task/" + thread);
    EXPECT_EQ(blocked >> (SIGBUS - 1) & 1, 0u);
    EXPECT_EQ(blocked >> (SIGTERM - 1) & 1, 1u);
    ++others;
  }
  EXPECT_GE(others, 2u);
}

TEST(Encoders, AWithdrawnJobIsLeftAlone) {
  RingLines of;
  Encoders encoders(4);
  for (int n = 0; n < 200; ++n) {
    LineBlock block(of.text, of.map(), of.ring);
    for (std::uint64_t row = 0; row < 8 * LineBlock::kRowsAChunk; row += 16)
      block.add_rows(row, {row, std::nullopt, &of.origin, 16, 1});
    LineBuffer lines;
    std::vector<moetrace::Run> runs{{true, 0, block.entries(), 0, block.rows(), {}, {}}};
    block.close(lines, runs);
    Encoders::Job job(block);
    encoders.begin(job);
    encoders.withdraw(job);
  }
}

TEST(LineBlock, KeepsTheOrderOfLinesAndRows) {
  RingLines of;
  LineBlock block(of.text, of.map(), of.ring);
  LineBuffer lines;
  std::vector<moetrace::Run> runs;
  std::string expected;
  // Runs of 1 to 700 rows with a line before each.
  std::uint64_t position = 0;
  for (std::uint32_t n = 0; n < 40; ++n) {
    const std::size_t begin = lines.size();
    lines.append("line ", n, "\n");
    runs.push_back({false, begin, lines.size(), std::nullopt, 1, {}, {}});
    expected += "line " + std::to_string(n) + "\n";
    const std::size_t first = block.entries();
    const std::uint64_t first_seq = position;
    for (std::uint32_t left = 1 + n * 18; left > 0;) {
      const std::uint32_t count = std::min(left, 1 + n % LineBlock::kRowsAChunk);
      const RouteRows rows{position, position, &of.origin, count, 1};
      block.add_rows(n, rows);
      LineBuffer out;
      append_routes(out, of.text, of.map(), of.ring, rows, RouteText::step_text(n));
      expected += out.view();
      position += count;
      left -= count;
    }
    runs.push_back({true, first, block.entries(), first_seq, position - first_seq, {}, {}});
  }
  ASSERT_LT(position, kSlots);
  block.close(lines, runs);
  EXPECT_GT(block.chunks(), 10u);
  std::string got;
  for (std::size_t chunk = block.chunks(); chunk-- > 0;) block.encode(chunk);
  for (std::size_t chunk = 0; chunk < block.chunks(); ++chunk) got += block.text(chunk);
  EXPECT_TRUE(got == expected);
  std::string of_runs;
  std::uint64_t next = 0;
  for (const moetrace::Run& run : block.runs()) {
    of_runs += run.text;
    if (!run.route) continue;
    EXPECT_EQ(run.first_seq, next);
    next += run.count;
  }
  EXPECT_TRUE(of_runs == expected);
  EXPECT_EQ(next, position);
}

}  // namespace
}  // namespace moetrace
