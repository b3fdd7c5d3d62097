#include "daemon/collector/ring_watch.hpp"

#include "daemon/collector/test_trace.hpp"

namespace moetrace {
namespace {

using State = SegmentDrain::State;

class RingWatchTest : public testing::Test {
 protected:
  void open(std::uint64_t slots) {
    producer = *RingProducer::open(test_settings(directory, slots));
    request = producer->requests().begin("r0", 1, 0);
    again();
  }
  // Another collector takes over.
  void again() {
    collector.reset();
    auto made = attach(directory, producer->name(), path);
    ASSERT_TRUE(made) << made.error().message;
    collector = std::move(*made);
    // Its first pass only writes the head of a new file.
    if (collector->file().size() == 0) pass();
  }
  // `rows` in each of both layers.
  void run(std::uint32_t rows, std::uint32_t layers = kTestLayers) {
    run_step(*producer, request, position, rows, layers);
    position += rows;
  }
  void pass() {
    const auto state = collector->pass();
    ASSERT_TRUE(state) << state.error().message;
  }
  std::uint64_t high_water() { return read_high_water(producer->map()).value_or(0); }
  std::string said() { return collector->take_warning(); }
  nlohmann::json end() {
    producer.reset();
    const auto state = drain(*collector);
    EXPECT_TRUE(state && *state == State::kEnded);
    return read_lines(path).back();
  }

  TestDirectory directory;
  std::string path = directory.file("trace.jsonl");
  std::unique_ptr<RingProducer> producer;
  std::unique_ptr<SegmentDrain> collector;
  std::uint64_t request = 0;
  std::uint64_t position = 0;
};

TEST_F(RingWatchTest, TheHighWaterMarkIsTheMostThatWasInTheRing) {
  open(64);
  EXPECT_EQ(high_water(), 0u);
  for (const auto& [rows, most] : {std::pair{3u, 6u}, {20u, 40u}, {2u, 40u}, {23u, 46u}}) {
    run(rows);
    pass();
    EXPECT_EQ(high_water(), most);
    ASSERT_TRUE(drain(*collector));
    EXPECT_EQ(said(), "");
  }
  const nlohmann::json line = end();
  EXPECT_EQ(line.at("ring"), nlohmann::json({{"slots", 64}, {"high_water", 46}}));
}

// More rows than a pass reads, and no snapshot counts them.
TEST_F(RingWatchTest, AStepUnderWayCounts) {
  open(4096);
  run(1500, 1);
  pass();
  EXPECT_EQ(high_water(), 1500u);
  pass();
  EXPECT_EQ(high_water(), 1500u);
  EXPECT_EQ(said(), "");
  // The next step begins with 476 rows less in the ring than there were.
  run(2000, 1);
  pass();
  EXPECT_EQ(high_water(), 2000u);
  ASSERT_TRUE(drain(*collector));
  run(4096, 1);
  pass();
  EXPECT_EQ(high_water(), 4096u);
}

TEST_F(RingWatchTest, ThreeQuartersAreSaidOnceInATrace) {
  open(64);
  run(24);
  pass();
  const std::string line = said();
  EXPECT_EQ(line.find("trace " + producer->name().trace_id +
                      ": its ring of 0.00390625 MiB was 75.0 % full; when it is full, rows are "
                      "dropped. In 0."),
            0u)
      << line;
  EXPECT_NE(line.find(" s 48 rows came and 0 were written. Try MOETRACE_RING_MB=0.0078125 for the "
                      "engine"),
            std::string::npos)
      << line;
  for (int turn = 0; turn < 2; ++turn) {
    run(32);
    pass();
    EXPECT_EQ(high_water(), 64u);
    EXPECT_EQ(said(), "");
    ASSERT_TRUE(drain(*collector));
    again();
  }
  EXPECT_EQ(end().at("ring").at("high_water"), 64);
}

TEST_F(RingWatchTest, ACollectorThatComesLateSaysSo) {
  open(64);
  collector.reset();
  std::filesystem::remove(path);
  run(30);
  again();
  pass();
  const std::string line = said();
  EXPECT_NE(line.find(" was 93.8 % full; when it is full, rows are dropped. It was so when this "
                      "collector began: start moetraced first, or try MOETRACE_RING_MB=0.0078125 "
                      "for the engine"),
            std::string::npos)
      << line;
}

TEST_F(RingWatchTest, DroppedRowsMeanThatTheRingWasFull) {
  open(64);
  run(40);
  pass();
  EXPECT_EQ(high_water(), 64u);
  const std::string line = said();
  // 64 + 16 rows fill half of a ring of 256 slots.
  EXPECT_NE(line.find(" was 100.0 % full, with 16 rows dropped. "), std::string::npos) << line;
  EXPECT_NE(line.find("MOETRACE_RING_MB=0.015625 "), std::string::npos) << line;
}

// The collector writes 1,024 rows a pass, and each time 1,300 come.
TEST_F(RingWatchTest, ASlowCollectorNamesWhatWouldKeepUp) {
  open(4096);
  run(512);
  pass();
  int passes = 0;
  std::string line;
  while ((line = said()).empty()) {
    run(650);
    pass();
    ASSERT_LT(++passes, 20);
  }
  const auto rows = [&](int each) {
    return std::to_string(each * passes / 1000) + "," +
           std::to_string(1000 + each * passes % 1000).substr(1);
  };
  EXPECT_NE(line.find(" s " + rows(1300) + " rows came and " + rows(1024) +
                      " were written. Try MOETRACE_RING_MB=0.5 for the engine, or --rows arrow for "
                      "moetraced, or 1 of the 2 layers (moetrace set --layers)"),
            std::string::npos)
      << line;
}

}  // namespace
}  // namespace moetrace
