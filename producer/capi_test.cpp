// The C API on a real segment.
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "producer/clock.hpp"
#include "producer/test_capi.hpp"
#include "shm/collector_segment.hpp"
#include "shm/session_claim.hpp"

namespace moetrace {
namespace {

TEST_F(CApi, APassFromEndToEnd) {
  moetrace_producer* producer = open();
  EXPECT_EQ(std::strlen(moetrace_trace_id(producer)), 36u);
  run_pass(producer);
  const CollectorSegment collector = collect();
  EXPECT_EQ(collector.name().trace_id, moetrace_trace_id(producer));
  EXPECT_EQ(SegmentReader(collector.map()).events(false).size(), 4u);
  EXPECT_EQ(SegmentReader(collector.map()).routes(false).size(), 4u);
  moetrace_totals totals{};
  totals.size = sizeof totals;
  moetrace_get_totals(producer, &totals);
  EXPECT_EQ(totals.steps, 1u);
  EXPECT_EQ(totals.attempted, 4u);
  EXPECT_EQ(totals.recorded, 4u);
  EXPECT_EQ(totals.dropped, 0u);
  EXPECT_TRUE(collector.producer_alive());
  moetrace_close(producer);
  EXPECT_FALSE(collector.producer_alive());
  EXPECT_EQ(collector.map().state()->host.closed, 1u);
  EXPECT_EQ(directory_.files().size(), 2u) << "the collector drains and removes it";
}

TEST_F(CApi, ANullProducerDoesNothing) {
  run_pass(nullptr);
  moetrace_step_abort(nullptr);
  moetrace_add_cost(nullptr, 1, 2);
  moetrace_totals totals{};
  totals.size = sizeof totals;
  totals.steps = 9;
  moetrace_get_totals(nullptr, &totals);
  EXPECT_EQ(totals.steps, 0u);
  EXPECT_STREQ(moetrace_trace_id(nullptr), "");
  moetrace_close(nullptr);
}

TEST_F(CApi, ReportsItsCost) {
  moetrace_producer* producer = open();
  const CollectorSegment collector = collect();
  const moetrace_host_counters& host = collector.map().state()->host;
  EXPECT_EQ(host.announce_ns + host.hook_ns, 0u);
  const auto now = [] { return std::chrono::steady_clock::now(); };
  const auto begin = now();
  for (int n = 0; n < 100; ++n) run_pass(producer);
  const auto wall_ns = static_cast<std::uint64_t>((now() - begin) / std::chrono::nanoseconds(1));
  const std::uint64_t announced = host.announce_ns;
  EXPECT_GT(announced, 0u);
  EXPECT_LT(announced, wall_ns);

  moetrace_add_cost(producer, 5'000'000'000, 7'000'000'000);
  EXPECT_EQ(host.announce_ns, announced + 5'000'000'000);
  EXPECT_GE(host.hook_ns, 7'000'000'000u);
  moetrace_totals totals{};
  totals.size = sizeof totals;
  moetrace_get_totals(producer, &totals);
  EXPECT_EQ(totals.announce_ns, host.announce_ns);
  EXPECT_EQ(totals.hook_ns, host.hook_ns);
  const std::uint64_t hook_ns = host.hook_ns;
  moetrace_close(producer);
  EXPECT_GE(host.hook_ns, hook_ns);
}

TEST_F(CApi, AnnouncesABatchInColumns) {
  moetrace_producer* producer = open();
  const CollectorSegment collector = collect();
  const std::uint64_t requests[] = {moetrace_request_begin(producer, "r0", 2, 0),
                                    moetrace_request_begin(producer, "r1", 2, 0)};
  const std::int32_t starts[] = {0, 2, 3};
  const std::int32_t firsts[] = {0, 9};
  constexpr std::uint64_t kSpent = 3'000'000'000;
  const auto began = monotonic_ns() - static_cast<std::int64_t>(kSpent);
  EXPECT_EQ(moetrace_step_begin_columns(producer, nullptr, 2, requests, starts, firsts, began), 1);
  const std::uint64_t cost = collector.map().state()->host.announce_ns;
  EXPECT_GE(cost, kSpent);
  EXPECT_LT(cost, 10'000'000'000u);
  const auto now = monotonic_ns;
  EXPECT_EQ(moetrace_step_begin_columns(producer, nullptr, 2, nullptr, starts, nullptr, now()), 1);
  EXPECT_EQ(moetrace_step_begin_columns(producer, nullptr, 0, requests, starts, firsts, now()), 0)
      << "no rows";
  SegmentReader reader(collector.map());
  const auto steps = reader.events_of<moetrace_step_event>(MOETRACE_EVENT_STEP);
  ASSERT_EQ(steps.size(), 2u);
  EXPECT_EQ(steps[0].rows, 3u);
  EXPECT_EQ(steps[0].spans, 2u);
  EXPECT_EQ(steps[1].rows, 3u);
  EXPECT_EQ(steps[1].spans, 0u) << "the rows belong to no request";
  moetrace_close(producer);
  EXPECT_EQ(moetrace_step_begin_columns(nullptr, nullptr, 2, requests, starts, firsts, began), 0);
}

TEST_F(CApi, UnannouncedPassesRecordNothing) {
  moetrace_producer* producer = open();
  EXPECT_EQ(moetrace_step_begin(producer, 0, nullptr, 0), 0);
  const std::int32_t ids[] = {0, 1};
  moetrace_record(producer, 0, ids, MOETRACE_INT32, nullptr, MOETRACE_FLOAT32, 1);
  EXPECT_EQ(moetrace_step_begin(producer, 1, nullptr, 5), 1)
      << "without spans span_count has no effect";
  moetrace_step_abort(producer);
  moetrace_record(producer, 0, ids, MOETRACE_INT32, nullptr, MOETRACE_FLOAT32, 1);
  moetrace_record(producer, 0, nullptr, MOETRACE_INT32, nullptr, MOETRACE_FLOAT32, 1);
  EXPECT_TRUE(SegmentReader(collect().map()).routes(false).empty());
  moetrace_close(producer);
}

TEST_F(CApi, AnErrorIsCutToItsBuffer) {
  moetrace_options options;
  moetrace_options_init(&options, sizeof options);
  char error[16];
  std::memset(error, 'x', sizeof error);
  EXPECT_EQ(moetrace_open(&options, error, sizeof error), nullptr);
  EXPECT_STREQ(error, "invalid value '");
  EXPECT_EQ(moetrace_open(&options, nullptr, 0), nullptr);
  EXPECT_EQ(moetrace_open(nullptr, error, sizeof error), nullptr);
}

TEST_F(CApi, TheSummaryIsOneLine) {
  moetrace_options options = this->options();
  const auto summary = [&] {
    moetrace_producer* producer = moetrace_open(&options, nullptr, 0);
    std::string line = moetrace_summary(producer);
    const std::string ring =
        directory_.file("moetrace.v1.test." + std::string(moetrace_trace_id(producer)) + ".ring");
    moetrace_close(producer);
    const auto at = line.find(ring);
    return at == std::string::npos ? line : line.replace(at, ring.size(), "RING");
  };
  EXPECT_EQ(summary(),
            "layers 0-1, session test, ring RING: 0.0625 MiB from ring_mb: holds 512 tokens in 2 "
            "layers, 128 bytes a token");
  options.model_id = "my/model";
  options.layers = "1";
  options.sample_every = 10;
  const std::string ring =
      "RING: 0.0625 MiB from ring_mb: holds 1,024 tokens in 1 layer, 64 bytes a token";
  EXPECT_EQ(summary(), "my/model: layers 1, one pass in 10, session test, ring " + ring);
  options.sample_every = 0;
  EXPECT_EQ(summary(), "my/model: layers 1, counted only, session test, ring " + ring);
}

TEST_F(CApi, SaysWhenNoCollectorServesTheSession) {
  EXPECT_EQ(moetrace_no_collector(nullptr), nullptr);
  moetrace_producer* producer = open();
  const std::string line =
      "no collector serves this trace yet: the ring keeps the first 1024 records; start moetraced "
      "--session test --directory " +
      directory_.path();
  EXPECT_EQ(moetrace_no_collector(producer), line);
  {
    const auto other = SessionClaim::take(directory_.path(), "other");
    EXPECT_EQ(moetrace_no_collector(producer), line);
    const auto claim = SessionClaim::take(directory_.path(), "test");
    EXPECT_EQ(moetrace_no_collector(producer), nullptr);
  }
  EXPECT_EQ(moetrace_no_collector(producer), line);

  // A collector that was killed leaves its file.
  const std::string file = directory_.file("moetrace.v1.test.0.collector");
  std::ofstream(file) << "1\n";
  EXPECT_EQ(moetrace_no_collector(producer), line);
  std::filesystem::remove(file);
  moetrace_close(producer);
}

// Root's collector drains all rings. Another user's, whose file we can't open, can't open our ring.
TEST_F(CApi, ACollectorOfAnotherUserDoesNotCount) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can act as two other users";
  moetrace_producer* producer = open();
  std::filesystem::permissions(directory_.path(), std::filesystem::perms::all);
  const auto as = [&](uid_t user) {
    EXPECT_EQ(::seteuid(user), 0);
    const char* said = moetrace_no_collector(producer);
    const bool none = said != nullptr;
    EXPECT_EQ(::seteuid(0), 0);
    return none;
  };
  const auto claim = SessionClaim::take(directory_.path(), "test");
  const std::string file = directory_.file("moetrace.v1.test.0.collector");
  std::filesystem::permissions(file, std::filesystem::perms::none);
  EXPECT_FALSE(as(64001));
  ASSERT_EQ(::chown(file.c_str(), 64002, 64002), 0);
  EXPECT_TRUE(as(64001));
  const std::string dead = directory_.file("moetrace.v1.test.1.collector");
  // Root's file, but no process holds its lock.
  std::ofstream(dead) << "1\n";
  std::filesystem::permissions(dead, std::filesystem::perms::none);
  EXPECT_TRUE(as(64001));
  moetrace_close(producer);
}

TEST_F(CApi, AProducerCanOpenWithAWarning) {
  const moetrace_layer_mask moe{{1u << 1}};
  moetrace_options options = this->options();
  options.moe_layers = &moe;
  char error[256] = "as it was";
  moetrace_producer* producer = moetrace_open(&options, error, sizeof error);
  EXPECT_NE(producer, nullptr);
  EXPECT_STREQ(error, "");
  moetrace_close(producer);
  options.layers = "0-1";
  producer = moetrace_open(&options, error, sizeof error);
  EXPECT_NE(producer, nullptr);
  EXPECT_STREQ(error, "layers '0-1': left out layers without experts (0); the MoE layers are 1");
  moetrace_close(producer);
}

}  // namespace
}  // namespace moetrace
