// The C API in a process that forks.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "producer/test_capi.hpp"

namespace moetrace {
namespace {

// Forks a child that runs `body`, reports on `ready_fd`, and then waits until the parent closes its
// end of `release_fd`. Returns the child's pid.
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

// Forks at any moment of an open or a close; the children live on.
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
    // A child closes its copy of the lock only after the parent's fork has returned.
    char answer = 0;
    ASSERT_EQ(::read(ready[0], &answer, 1), 1);
  }
  done = true;
  engine.join();
  EXPECT_GE(opened, 30) << "too few opens for a fork to have met one";
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
