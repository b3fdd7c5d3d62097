#include "daemon/cli/run_traced.hpp"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <optional>
#include <random>

#include "common/child.hpp"
#include "daemon/cli/next_step.hpp"
#include "daemon/cli/output_folder.hpp"
#include "daemon/cli/run_collector.hpp"
#include "daemon/cli/run_report.hpp"
#include "daemon/cli/run_rings.hpp"
#include "daemon/cli/run_signals.hpp"
#include "daemon/cli/segments.hpp"

namespace moetrace::cli {
namespace {

using Clock = std::chrono::steady_clock;

// A shell's exit codes.
constexpr int kCannotExecute = 126;
constexpr int kNotFound = 127;
// Give up after this long without progress. Workers may outlive the command that started them by a
// moment, and the disk may be full for a moment.
constexpr auto kPatience = std::chrono::seconds(10);
constexpr int kPollMs = 5;
// An engine in the background may run for hours.
constexpr int kPollBackgroundMs = 50;
// Restart a collector that ends while COMMAND runs, at once: the ring fills in seconds.
constexpr int kMostRestarts = 3;

// sigabbrev_np() would need glibc 2.32.
const char* signal_name(int number) {
  switch (number) {
    case SIGHUP:
      return "SIGHUP";
    case SIGINT:
      return "SIGINT";
    case SIGQUIT:
      return "SIGQUIT";
    default:
      return "SIGTERM";
  }
}

std::string private_session() {
  std::random_device random;
  char name[32];
  std::snprintf(name, sizeof name, "run-%08x%08x", random(), random());
  return name;
}

class Run {
 public:
  explicit Run(const RunOptions& options)
      : options_(options),
        session_(private_session()),
        directory_(absolute(ring_directory(options.directory))),
        collector_(directory_, session_, options.output, options.publish) {}

  Outcome run();

 private:
  // What the run still waits for after COMMAND's end. Each signal moves it one further.
  enum Waiting { kForEngine, kForRows, kForCollector, kNoMore };

  Outcome run_command();
  int wait_for_command(pid_t command);
  void collect();
  void stop_collector();
  bool draw();

  std::optional<int> wait_a_little(pid_t awaited, int timeout_ms);
  std::optional<int> reap(pid_t awaited);
  void restart_collector();
  void take_interrupts();
  bool endpoint_is_named() const;

  const RunOptions& options_;
  std::string session_;
  std::string directory_;
  TraceFolder folder_;
  RunSignals signals_;
  RunCollector collector_;
  int restarts_ = 0;
  // The collector was told to end.
  bool stopping_ = false;
  pid_t plotter_ = -1;
  Waiting waiting_ = kForRows;
};

Outcome Run::run() {
  std::string unwritable = folder_.prepare(options_.output);
  if (unwritable.empty() && !options_.plot_dir.empty())
    unwritable = plot_folder_error(options_.plot_dir);
  if (!unwritable.empty()) return Failure{kFailed, unwritable};
  if (const std::string why = collector_.start(signals_.interrupt_fd()); !why.empty()) {
    if (collector_.refused_settings()) {
      return Failure{kUsage, "run: COMMAND was not started: moetraced: " + why +
                                 "; correct the setting that its line names"};
    }
    if (endpoint_is_named() && !collector_.running()) {
      return Failure{kFailed, "run: COMMAND was not started: moetraced: " + why +
                                  "; correct --publish, or leave it out"};
    }
    say("moetraced: " + why + "; COMMAND runs without it, and its rows wait in the ring");
  }
  // A signal before COMMAND starts means: do not start it.
  if (const int number = signals_.take_interrupt()) {
    stop_collector();
    return 128 + number;
  }
  return run_command();
}

bool Run::endpoint_is_named() const {
  return !options_.publish.empty() && options_.publish.front() != "none";
}

Outcome Run::run_command() {
  ChildSetup setup;
  setup.arguments = options_.command;
  setup.environment = {{"MOETRACE", "1"}, {"MOETRACE_SESSION", session_}};
  if (!options_.directory.empty()) setup.environment.push_back({"MOETRACE_DIR", directory_});
  const Spawned child = spawn(setup);
  if (child.pid < 0) {
    stop_collector();
    return Failure{child.error_number == ENOENT ? kNotFound : kCannotExecute,
                   options_.command[0] + ": can't be started: " +
                       std::strerror(child.error_number) + "; check the command after --"};
  }
  signals_.watch_group();
  const int exit_code = wait_for_command(child.pid);
  signals_.end_watch();
  collect();
  stop_collector();
  bool good = report_run(directory_, session_, options_.output, collector_.traces(),
                         rings_left(directory_, session_));
  if (good && !options_.plot_dir.empty()) good = draw();
  // A failure of COMMAND goes before ours.
  return exit_code != kOk || good ? exit_code : kFailed;
}

int Run::wait_for_command(pid_t command) {
  while (true) {
    pollfd events[3] = {{signals_.child_fd(), POLLIN, 0},
                        {signals_.command_fd(), POLLIN, 0},
                        {collector_.lines_fd(), POLLIN, 0}};
    ::poll(events, 3, -1);
    collector_.read_lines();
    if (const auto status = reap(command)) return exit_code_of(*status);
    if (events[1].revents != 0) signals_.pass_on(command);
  }
}

// After COMMAND's end: waits until a child ends, a signal comes, the collector writes a line, or
// the time is over. Returns the status of `awaited` if it has ended.
std::optional<int> Run::wait_a_little(pid_t awaited, int timeout_ms) {
  pollfd events[3] = {{signals_.child_fd(), POLLIN, 0},
                      {signals_.interrupt_fd(), POLLIN, 0},
                      {collector_.lines_fd(), POLLIN, 0}};
  ::poll(events, 3, timeout_ms);
  collector_.read_lines();
  take_interrupts();
  return reap(awaited);
}

// Reaps every child: as the first process of a container we are the parent of every orphan.
// Elsewhere we do not ask for orphans (PR_SET_CHILD_SUBREAPER): that would change the parent of the
// processes that COMMAND leaves, and a ring alone shows that its trace has ended.
std::optional<int> Run::reap(pid_t awaited) {
  signals_.note_children();
  std::optional<int> ended;
  bool collector_ended = false;
  int status = 0;
  for (pid_t pid; (pid = ::waitpid(-1, &status, WNOHANG)) > 0;) {
    if (pid == awaited) ended = status;
    collector_ended = collector_.note_child(pid, status) || collector_ended;
    signals_.note_child(pid);
  }
  if (collector_ended && !stopping_) restart_collector();
  return ended;
}

void Run::restart_collector() {
  const std::string how = "moetraced: ended too early, with " + collector_.how_it_ended();
  if (restarts_ == kMostRestarts) {
    say(how + "; new rows wait in the ring; see its lines above for the cause");
    return;
  }
  ++restarts_;
  const std::string why = collector_.start(signals_.interrupt_fd());
  say(how +
      (why.empty() ? "; started again" : ", and then " + why + "; new rows wait in the ring"));
}

void Run::take_interrupts() {
  while (const int number = signals_.take_interrupt()) {
    const std::string name = std::string("run: got ") + signal_name(number);
    if (plotter_ > 0) {
      ::kill(plotter_, SIGTERM);
    } else if (waiting_ == kForEngine) {
      waiting_ = kForRows;
      say(name + ": stopped waiting for an engine; send it again to end the trace as it is");
    } else if (waiting_ == kForRows) {
      waiting_ = kForCollector;
      say(name + ": ending the trace as it is; send it again to kill the collector");
    } else {
      waiting_ = kNoMore;
      collector_.send(SIGKILL);
    }
  }
}

// Waits until the rings are drained and removed.
void Run::collect() {
  if (options_.wait) waiting_ = kForEngine;
  if (!collector_.running()) {
    // The session is private: no other collector serves it.
    if (const std::string why = collector_.start(signals_.interrupt_fd()); !why.empty())
      say("moetraced: " + why + " again");
  }
  RingsNow before;
  auto deadline = Clock::now() + kPatience;
  bool said = false;
  while (collector_.running() && waiting_ < kForCollector) {
    const RingsNow rings = look_at_rings(directory_, session_);
    const bool made = rings.count > 0 || !collector_.traces().empty();
    const bool in_background = waiting_ == kForEngine && (!made || rings.producing);
    if (rings.count == 0 && !in_background) return;
    if (in_background && !said) {
      said = true;
      say("run: COMMAND has ended; waiting for its engine in the background (session " + session_ +
          "); Ctrl-C stops the wait");
    }
    if (in_background || rings != before) deadline = Clock::now() + kPatience;
    before = rings;
    if (Clock::now() >= deadline) return;
    wait_a_little(-1, in_background ? kPollBackgroundMs : kPollMs);
  }
}

void Run::stop_collector() {
  stopping_ = true;
  const bool ran = collector_.running();
  collector_.send(SIGTERM);
  while (collector_.running()) wait_a_little(-1, -1);
  if (ran && !collector_.ended_well())
    say("moetraced: ended with " + collector_.how_it_ended() +
        "; see its lines above for the cause");
  remove_dead_claim(directory_, session_);
}

bool Run::draw() {
  ChildSetup setup;
  setup.arguments = {sibling_program("moetrace-plot"), "-o", options_.plot_dir, "--"};
  const auto& files = collector_.traces();
  setup.arguments.insert(setup.arguments.end(), files.begin(), files.end());
  setup.helper = true;
  const Spawned child = spawn(setup);
  if (child.pid < 0) {
    say("moetrace-plot: can't be started: " + std::string(std::strerror(child.error_number)) +
        "; install it next to moetrace, or leave out --plot");
    return false;
  }
  plotter_ = child.pid;
  std::optional<int> status;
  while (!status) status = wait_a_little(child.pid, -1);
  // moetrace-plot has printed why.
  if (exit_code_of(*status) != 0) return false;
  say("pictures and metrics in " + options_.plot_dir);
  return true;
}

}  // namespace

Outcome run_traced(const RunOptions& options) {
  return Run(options).run();
}

}  // namespace moetrace::cli
