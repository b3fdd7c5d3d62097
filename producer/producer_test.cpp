// The C API on a real segment, and what a fork leaves of it.
#include "producer/producer.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "producer/cost.hpp"
#include "producer/test_segment.hpp"
#include "shm/collector_segment.hpp"
#include "shm/session_claim.hpp"

namespace moetrace {
namespace {

class CApi : public ::testing::Test {
 protected:
  moetrace_options options() const {
    moetrace_options options;
    moetrace_options_init(&options, sizeof options);
    options.directory = directory_.path().c_str();
    options.session = "test";
    options.ring_mb = 0.0625;
    options.layers = "all";
    options.sample_every = 1;
    options.num_layers = 2;
    options.num_experts = 8;
    options.top_k = 2;
    return options;
  }
  moetrace_producer* open() {
    const moetrace_options options = this->options();
    char error[256] = "";
    moetrace_producer* producer = moetrace_open(&options, error, sizeof error);
    EXPECT_NE(producer, nullptr) << error;
    return producer;
  }
  CollectorSegment collect() {
    const auto names = list_segments(directory_.path(), "test");
    if (!names || names->empty()) throw std::runtime_error("no segment");
    return std::move(*CollectorSegment::open(directory_.path(), names->front(),
                                             CollectorSegment::Access::kObserve));
  }
  // One request, one pass of two rows through both layers.
  static void run_pass(moetrace_producer* producer) {
    const std::uint64_t request = moetrace_request_begin(producer, "r0", 2, 0);
    const moetrace_span span = {request, 0, 0, 2};
    moetrace_step_begin(producer, 2, &span, 1);
    const std::int32_t ids[] = {0, 1, 2, 3};
    const float weights[] = {0.5f, 0.25f, 0.75f, 0.125f};
    for (std::uint32_t layer = 0; layer < 2; ++layer) {
      moetrace_record(producer, layer, ids, MOETRACE_INT32, weights, MOETRACE_FLOAT32, 2);
    }
    moetrace_request_end(producer, request, 1, "stop");
  }

  TestDirectory directory_;
};

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

TEST_F(CApi, SaysWhatItCosts) {
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
  // A caller that was compiled before there were these two.
  moetrace_totals older{};
  older.size = offsetof(moetrace_totals, announce_ns);
  older.announce_ns = 123;
  moetrace_get_totals(producer, &older);
  EXPECT_EQ(older.steps, 100u);
  EXPECT_EQ(older.announce_ns, 123u);
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
  EXPECT_EQ(steps[1].spans, 0u) << "of no request";
  moetrace_close(producer);
  EXPECT_EQ(moetrace_step_begin_columns(nullptr, nullptr, 2, requests, starts, firsts, began), 0);
}

TEST_F(CApi, NothingAnnouncedRecordsNothing) {
  moetrace_producer* producer = open();
  EXPECT_EQ(moetrace_step_begin(producer, 0, nullptr, 0), 0);
  const std::int32_t ids[] = {0, 1};
  moetrace_record(producer, 0, ids, MOETRACE_INT32, nullptr, MOETRACE_FLOAT32, 1);
  EXPECT_EQ(moetrace_step_begin(producer, 1, nullptr, 5), 1)
      << "no spans, whatever their number says";
  moetrace_step_abort(producer);
  moetrace_record(producer, 0, ids, MOETRACE_INT32, nullptr, MOETRACE_FLOAT32, 1);
  moetrace_record(producer, 0, nullptr, MOETRACE_INT32, nullptr, MOETRACE_FLOAT32, 1);
  EXPECT_TRUE(SegmentReader(collect().map()).routes(false).empty());
  moetrace_close(producer);
}

TEST_F(CApi, ErrorsAreOneLineThatFits) {
  moetrace_options options;
  moetrace_options_init(&options, sizeof options);
  char error[16];
  std::memset(error, 'x', sizeof error);
  EXPECT_EQ(moetrace_open(&options, error, sizeof error), nullptr);
  EXPECT_STREQ(error, "num_layers: '0'");
  EXPECT_EQ(moetrace_open(&options, nullptr, 0), nullptr);
  EXPECT_EQ(moetrace_open(nullptr, error, sizeof error), nullptr);
  options.size = 8;
  char whole[256];
  EXPECT_EQ(moetrace_open(&options, whole, sizeof whole), nullptr);
  EXPECT_NE(std::strstr(whole, "moetrace_options_init"), nullptr);
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
  EXPECT_EQ(summary(), "layers 0-1, session test, ring RING");
  options.model_id = "my/model";
  options.layers = "1";
  options.sample_every = 10;
  EXPECT_EQ(summary(), "my/model: layers 1, one pass in 10, session test, ring RING");
  options.sample_every = 0;
  EXPECT_EQ(summary(), "my/model: layers 1, counted only, session test, ring RING");
}

TEST_F(CApi, SaysThatNoCollectorServesItAsLongAsNoneDoes) {
  EXPECT_EQ(moetrace_no_collector(nullptr), nullptr);
  moetrace_producer* producer = open();
  const std::string line =
      "no collector serves this trace yet, its ring keeps the first 1024 records; start moetraced "
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

// Root's collector drains all rings; a stranger's, whose file we may not open, can't open ours.
TEST_F(CApi, SaysThatNoCollectorServesItBesideAStrangersClaim) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root has strangers";
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
  std::ofstream(dead) << "1\n";  // root's, and no process has it
  std::filesystem::permissions(dead, std::filesystem::perms::none);
  EXPECT_TRUE(as(64001));
  moetrace_close(producer);
}

TEST_F(CApi, AProducerMayComeWithAWarning) {
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
  EXPECT_STREQ(error, "layers: '0-1' names layers without experts to record, 0; MoE layers are 1");
  moetrace_close(producer);
}

// Forks a child that runs `body` and then waits on a pipe until the parent lets it go; gives the
// child's pid.
template <class Body>
pid_t fork_child(int release_fd, int ready_fd, Body body) {
  const pid_t pid = ::fork();
  if (pid != 0) return pid;
  const char ok = body() ? 'y' : 'n';
  char byte;
  if (::write(ready_fd, &ok, 1) != 1 || ::read(release_fd, &byte, 1) != 0) ::_exit(1);
  ::_exit(0);
}

TEST_F(CApi, InAForkedChildEveryCallDoesNothing) {
  moetrace_producer* producer = open();
  int ready[2];
  int release[2];
  ASSERT_EQ(::pipe(ready), 0);
  ASSERT_EQ(::pipe(release), 0);
  const pid_t pid = fork_child(release[0], ready[1], [&] {
    ::close(release[1]);
    run_pass(producer);
    moetrace_step_abort(producer);
    moetrace_add_cost(producer, 1, 2);
    moetrace_totals totals{};
    totals.size = sizeof totals;
    moetrace_get_totals(producer, &totals);
    moetrace_close(producer);
    return totals.steps == 0 && totals.announce_ns == 0;
  });
  ASSERT_GT(pid, 0);
  char answer = 0;
  ASSERT_EQ(::read(ready[0], &answer, 1), 1) << "the child died";
  EXPECT_EQ(answer, 'y');

  const CollectorSegment collector = collect();
  EXPECT_TRUE(SegmentReader(collector.map()).events(false).empty());
  EXPECT_EQ(collector.map().state()->host.announce_ns, 0u);
  EXPECT_EQ(collector.map().state()->host.closed, 0u) << "the child's close is not the parent's";
  EXPECT_TRUE(collector.producer_alive());
  run_pass(producer);
  EXPECT_EQ(SegmentReader(collector.map()).routes(false).size(), 4u) << "the parent goes on";
  moetrace_close(producer);
  EXPECT_FALSE(collector.producer_alive()) << "although the child still runs";

  ::close(release[1]);
  int status = -1;
  ::waitpid(pid, &status, 0);
  EXPECT_EQ(status, 0);
}

TEST_F(CApi, TheLockDiesWithTheParentEvenIfAChildLivesOn) {
  int ready[2];
  int release[2];
  ASSERT_EQ(::pipe(ready), 0);
  ASSERT_EQ(::pipe(release), 0);
  const pid_t parent = ::fork();
  if (parent == 0) {
    ::close(release[1]);
    open();
    fork_child(release[0], ready[1], [] { return true; });
    ::pause();
  }
  ASSERT_GT(parent, 0);
  char answer = 0;
  ASSERT_EQ(::read(ready[0], &answer, 1), 1);
  const CollectorSegment collector = collect();
  EXPECT_TRUE(collector.producer_alive());
  ::kill(parent, SIGKILL);
  ::waitpid(parent, nullptr, 0);
  EXPECT_FALSE(collector.producer_alive());
  ::close(release[1]);  // lets the grandchild go
}

// Children that are born at any moment of an open or a close, and live on.
TEST_F(CApi, AForkDuringOpenOrCloseKeepsNoLock) {
  int ready[2];
  int release[2];
  ASSERT_EQ(::pipe(ready), 0);
  ASSERT_EQ(::pipe(release), 0);
  std::atomic<int> opened = 0;
  std::atomic<bool> done = false;
  std::thread engine([&] {
    for (; !done; ++opened) moetrace_close(open());
  });
  std::vector<pid_t> children;
  while (children.size() < 100 || (opened < 30 && children.size() < 2000)) {
    const pid_t pid = fork_child(release[0], ready[1], [&] {
      ::close(release[1]);
      return true;
    });
    ASSERT_GT(pid, 0);
    children.push_back(pid);
    // A child gives the lock back in its own time, which comes after the parent's fork returns.
    char answer = 0;
    ASSERT_EQ(::read(ready[0], &answer, 1), 1);
  }
  done = true;
  engine.join();
  EXPECT_GE(opened, 30) << "hardly a fork can have met an open";
  const auto names = list_segments(directory_.path(), "test");
  int alive = 0;
  for (const SegmentName& name : *names) {
    const auto segment =
        CollectorSegment::open(directory_.path(), name, CollectorSegment::Access::kObserve);
    ASSERT_TRUE(segment);
    alive += segment->producer_alive() ? 1 : 0;
  }
  EXPECT_EQ(alive, 0) << "of " << names->size() << " closed segments: a child holds their lock";
  ::close(release[1]);
  for (const pid_t pid : children) {
    int status = -1;
    ::waitpid(pid, &status, 0);
    EXPECT_EQ(status, 0);
  }
}

TEST_F(CApi, ATraceOpenedInAChildIsItsOwn) {
  moetrace_producer* outer = open();
  const pid_t pid = ::fork();
  if (pid == 0) {
    moetrace_producer* inner = open();
    run_pass(inner);
    moetrace_close(inner);
    ::_exit(0);
  }
  int status = -1;
  ::waitpid(pid, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(list_segments(directory_.path(), "test")->size(), 2u);
  moetrace_close(outer);
}

}  // namespace
}  // namespace moetrace
