// moetrace run: one command, traced from its start to its end.
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <random>
#include <thread>

#include "daemon/cli/child.hpp"
#include "daemon/cli/commands.hpp"
#include "daemon/cli/output_folder.hpp"
#include "daemon/cli/run_collector.hpp"
#include "daemon/cli/text.hpp"
#include "daemon/cli/verifier.hpp"

namespace moetrace::cli {
namespace {

struct RunOptions {
  std::string output;
  std::string plot_dir;
  std::vector<std::string> publish;
  std::vector<std::string> command;
};

constexpr const char* kUsageLine = "moetrace run [OPTIONS] -- COMMAND [ARG...]";

constexpr int kCannotExecute = 126;  // as a shell says it
constexpr int kNotFound = 127;
// Workers may outlive the command that started them by a moment, and the disk may be full for one.
// So long nothing may move.
constexpr auto kPatience = std::chrono::seconds(10);
constexpr auto kPoll = std::chrono::milliseconds(5);

void say(const std::string& line) {
  std::fprintf(stderr, "moetrace: %s\n", line.c_str());
}

std::string cost_text(const TraceSummary& summary) {
  if (!summary.cost_ns) return "";
  return "; the hook took " + decimals(*summary.cost_ns / 1e6, 1) + " ms of the engine's time";
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
        collector_(session_, options.output, options.publish) {}

  Outcome run();

 private:
  void block_signals();
  Outcome run_command();
  int wait_for_command(pid_t command);
  void pass_on(pid_t command, const signalfd_siginfo& signal) const;
  bool end_collector();
  void wait_until_collected() const;
  bool report();
  bool draw(const std::vector<std::string>& files) const;

  const RunOptions& options_;
  std::string session_;
  TraceFolder folder_;
  RunCollector collector_;
  UniqueFd signals_;     // SIGINT, SIGTERM, SIGHUP, SIGCHLD
  UniqueFd interrupts_;  // the same without SIGCHLD
  bool collector_failed_ = false;
};

Outcome Run::run() {
  std::string unwritable = folder_.prepare(options_.output);
  if (unwritable.empty() && !options_.plot_dir.empty())
    unwritable = plot_folder_error(options_.plot_dir);
  if (!unwritable.empty()) return Failure{kFailed, unwritable};
  block_signals();
  if (const std::string why = collector_.start(interrupts_.get()); !why.empty()) {
    collector_failed_ = true;
    say("moetraced: " + why + "; COMMAND runs without it, and its trace will not be complete");
  }
  // Whoever interrupts us now does not want COMMAND at all.
  signalfd_siginfo signal{};
  if (::read(interrupts_.get(), &signal, sizeof signal) == sizeof signal) {
    collector_.stop(interrupts_.get());
    return 128 + static_cast<int>(signal.ssi_signo);
  }
  return run_command();
}

void Run::block_signals() {
  ::signal(SIGPIPE, SIG_IGN);  // a closed standard error must not cost COMMAND's exit status
  sigset_t set;
  ::sigemptyset(&set);
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) ::sigaddset(&set, number);
  interrupts_ = UniqueFd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  ::sigaddset(&set, SIGCHLD);
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
  signals_ = UniqueFd(::signalfd(-1, &set, SFD_CLOEXEC));
}

Outcome Run::run_command() {
  ChildSetup setup;
  setup.arguments = options_.command;
  setup.environment = {{"MOETRACE", "1"}, {"MOETRACE_SESSION", session_}};
  const Spawned child = spawn(setup);
  if (child.pid < 0) {
    collector_.stop(interrupts_.get());
    return Failure{child.error_number == ENOENT ? kNotFound : kCannotExecute,
                   options_.command[0] + ": can't be started: " +
                       std::strerror(child.error_number) + "; check the command after --"};
  }
  const int exit_code = wait_for_command(child.pid);
  const bool collected = end_collector();
  const bool verified = report();
  // COMMAND's own failure is never hidden by ours.
  if (exit_code != kOk) return exit_code;
  return collected && verified ? kOk : kFailed;
}

int Run::wait_for_command(pid_t command) {
  while (true) {
    pollfd awaited[2] = {{signals_.get(), POLLIN, 0}, {collector_.lines_fd(), POLLIN, 0}};
    ::poll(awaited, 2, -1);
    collector_.read_lines();
    signalfd_siginfo signal{};
    if (awaited[0].revents == 0 || ::read(signals_.get(), &signal, sizeof signal) != sizeof signal)
      continue;
    if (signal.ssi_signo != SIGCHLD) {
      pass_on(command, signal);
      continue;
    }
    if (collector_.reap()) {
      collector_failed_ = true;
      say("moetraced: ended too early, with " + collector_.how_it_ended() + "; COMMAND goes on");
    }
    int status = 0;
    if (::waitpid(command, &status, WNOHANG) == command) return exit_code_of(status);
  }
}

// What the terminal sends it sends to the whole foreground group: COMMAND has it already.
void Run::pass_on(pid_t command, const signalfd_siginfo& signal) const {
  if (signal.ssi_code != SI_KERNEL) ::kill(command, static_cast<int>(signal.ssi_signo));
}

void Run::wait_until_collected() const {
  pollfd interrupt{interrupts_.get(), POLLIN, 0};
  auto progress = uncollected(session_);
  auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (progress && std::chrono::steady_clock::now() < deadline &&
         ::poll(&interrupt, 1, static_cast<int>(kPoll.count())) == 0) {
    const auto now = uncollected(session_);
    if (now != progress) deadline = std::chrono::steady_clock::now() + kPatience;
    progress = now;
  }
}

bool Run::end_collector() {
  if (!collector_.running()) {
    // It is gone, and nobody else will ever look at this session: drain what is left.
    if (const std::string why = collector_.start(interrupts_.get()); !why.empty())
      say("moetraced: " + why + " again");
  }
  if (collector_.running()) wait_until_collected();
  if (collector_.running() && !collector_.stop(interrupts_.get())) {
    collector_failed_ = true;
    say("moetraced: ended with " + collector_.how_it_ended() + "; the trace may not be complete");
  }
  remove_dead_segments(session_);
  return !collector_failed_;
}

// Says what came out. False if a trace is not what it should be.
bool Run::report() {
  const std::vector<std::string>& files = collector_.traces();
  if (files.empty() && !collector_failed_) {
    say("run: there is no trace, because COMMAND made no ring; install the moetrace package in the "
        "environment of its engine, if that does not know MOETRACE=1; check that its model has MoE "
        "layers; and look for a line of its own that begins with \"moetrace:\" or "
        "\"moetrace-engine:\", which says why");
  }
  bool good = true;
  for (const std::string& file : files) {
    const auto summary = verify_trace(file);
    if (!summary) {
      say(summary.error().message);
      good = false;
      continue;
    }
    std::error_code failed;
    const auto bytes = static_cast<double>(std::filesystem::file_size(file, failed));
    say(file + ": " + counted(summary->rows, "row") + " of " +
        counted(summary->requests, "request") + " in " + counted(summary->layers.count(), "layer") +
        ", " + grouped(summary->dropped) + " dropped, " + decimals(bytes / 1e6, 1) +
        " MB, verified" + cost_text(*summary));
  }
  if (!options_.plot_dir.empty() && !files.empty() && good) good = draw(files);
  return good;
}

bool Run::draw(const std::vector<std::string>& files) const {
  ChildSetup setup;
  setup.arguments = {sibling_program("moetrace-plot")};
  setup.arguments.insert(setup.arguments.end(), files.begin(), files.end());
  setup.arguments.insert(setup.arguments.end(), {"-o", options_.plot_dir});
  setup.helper = true;
  const Spawned child = spawn(setup);
  if (child.pid < 0) {
    say("moetrace-plot: can't be started: " + std::string(std::strerror(child.error_number)) +
        "; is it installed?");
    return false;
  }
  int status = 0;
  while (::waitpid(child.pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (exit_code_of(status) != 0) return false;  // it has said why
  say("pictures and metrics in " + options_.plot_dir);
  return true;
}

class RunHelp : public CLI::Formatter {
  std::string make_usage(const CLI::App*, std::string) const override {
    return std::string("Usage: ") + kUsageLine + "\n";
  }
};

// What is wrong with what stands before and behind `--`, or "".
std::string usage_error(const std::vector<std::string>& words,
                        const std::optional<std::vector<std::string>>& command) {
  const std::string write = std::string("; write: ") + kUsageLine;
  if (!words.empty() && words.front().starts_with("-"))
    return "run: there is no option " + words.front() + "; see moetrace run --help";
  if (!words.empty() && !command)
    return "run: -- is missing before COMMAND, here '" + words.front() + "'" + write;
  if (!words.empty())
    return "run: '" + words.front() + "' stands before --, where only options may stand" + write;
  if (!command) return "run: -- and COMMAND are missing" + write;
  return command->empty() ? "run: COMMAND is missing behind --" + write : "";
}

}  // namespace

void add_run(CLI::App& app, const std::optional<std::vector<std::string>>& command,
             Command& chosen) {
  auto* sub = app.add_subcommand("run", std::string("Trace one command: ") + kUsageLine);
  sub->formatter(std::make_shared<RunHelp>());
  sub->prefix_command();  // what is no option is looked at below
  auto options = std::make_shared<RunOptions>();
  const char* output = std::getenv("VLLM_LOG_MOE");
  options->output = output != nullptr && *output != '\0' ? output : "trace.jsonl";
  sub->add_option("-o,--output", options->output,
                  "The trace file; without it, $VLLM_LOG_MOE or trace.jsonl");
  sub->add_option("--plot", options->plot_dir, "Draw the pictures into this folder at the end");
  sub->add_option("--publish", options->publish, "Where to publish the live stream; none: nowhere")
      ->take_all();
  sub->callback([sub, options, command, &chosen] {
    chosen = [words = sub->remaining(), options, command]() -> Outcome {
      const std::string wrong = usage_error(words, command);
      if (!wrong.empty()) return Failure{kUsage, wrong};
      options->command = *command;
      return Run(*options).run();
    };
  });
}

}  // namespace moetrace::cli
