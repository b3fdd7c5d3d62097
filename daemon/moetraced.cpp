// The collector daemon.
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/program.hpp"
#include "daemon/collector/arguments.hpp"
#include "daemon/collector/collector.hpp"
#include "daemon/collector/output_names.hpp"
#include "daemon/collector/settings.hpp"
#include "daemon/dead_files.hpp"
#include "daemon/ready_pipe.hpp"
#include "daemon/service_manager.hpp"
#include "shm/file_lock.hpp"
#include "shm/session_claim.hpp"

namespace {

constexpr int kFailed = 1;
constexpr int kUsage = 2;

void say(const std::string& line) {
  std::fprintf(stderr, "moetraced: %s\n", line.c_str());
}

// SIGINT, SIGTERM and SIGHUP as a descriptor, to be read between two rounds.
moetrace::UniqueFd take_signals() {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) ::sigaddset(&set, number);
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  // A file size limit shall be an error of write().
  ::signal(SIGXFSZ, SIG_IGN);
  return moetrace::UniqueFd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
}

// Raises the limit as far as allowed: each trace takes up to six descriptors.
void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

std::string ready_text(const moetrace::CollectorOptions& options,
                       const std::vector<std::string>& endpoints) {
  std::string text =
      "ready: session " + options.session + ", rings in " + options.directory + ", traces to " +
      (options.output.empty() ? options.output_dir + "/<trace id>.jsonl" : options.output) +
      ", publishing " + (endpoints.empty() ? "nothing" : "on");
  for (const std::string& endpoint : endpoints) text += " " + endpoint;
  return text;
}

std::string ready_line(const std::vector<std::string>& endpoints) {
  std::string line = "ready";
  for (const std::string& endpoint : endpoints) line += " " + endpoint;
  return line;
}

// Waits for a signal or a time.
void wait(int signals, std::chrono::nanoseconds time) {
  const timespec pause{0, static_cast<long>(time.count())};
  pollfd descriptor{signals, POLLIN, 0};
  ::ppoll(&descriptor, 1, &pause, nullptr);
}

struct Asked {
  bool stop = false;
  bool hang_up = false;
};
Asked read_signals(int signals) {
  Asked asked;
  for (signalfd_siginfo signal{}; ::read(signals, &signal, sizeof signal) == sizeof signal;) {
    (signal.ssi_signo == SIGHUP ? asked.hang_up : asked.stop) = true;
  }
  return asked;
}

// SIGHUP: takes what has changed. A bad file or output changes nothing.
void reload(moetrace::CollectorSettings& settings) {
  auto reloaded = moetrace::reload_settings(settings);
  std::optional<moetrace::Error> error;
  if (!reloaded) {
    error = reloaded.error();
  } else if (const auto& now = settings.options, &next = reloaded->settings.options;
             std::pair(now.output, now.output_dir) != std::pair(next.output, next.output_dir)) {
    error = moetrace::prepare_output(next);
  }
  if (error) {
    say(error->message + "; all settings stay as they were");
    return;
  }
  // What was asked for and did not happen is a warning.
  if (!reloaded->line.empty() && (reloaded->kept || !settings.options.prints_only_faults()))
    say(reloaded->line);
  settings = std::move(reloaded->settings);
}

}  // namespace

int main(int argc, char** argv) {
  moetrace::command_line::begin_program();
  auto parsed = moetrace::parse_arguments(argc, argv);
  if (!parsed) {
    say(parsed.error().message);
    return kUsage;
  }
  for (const std::string& warning : parsed->warnings) say(warning);
  if (parsed->text) {
    std::fputs(parsed->text->c_str(), stdout);
    return moetrace::command_line::end_program("moetraced", 0);
  }
  moetrace::CollectorSettings& settings = parsed->settings;
  const moetrace::CollectorOptions& options = settings.options;

  const moetrace::UniqueFd signals = take_signals();
  raise_descriptor_limit();
  if (const auto segments = moetrace::list_segments(options.directory, options.session);
      !segments) {
    say(segments.error().message);
    return kFailed;
  }
  const auto claim = moetrace::SessionClaim::take(options.directory, options.session);
  if (!claim) {
    say(claim.error().message);
    return kFailed;
  }
  if (!claim->problem().empty()) say(claim->problem());
  if (const auto error = moetrace::prepare_output(options)) {
    say(error->message);
    return kFailed;
  }
  moetrace::remove_dead_run_files(options.directory);
  auto publisher = moetrace::Publisher::bind(options.session, options.publish, say);
  if (!publisher) {
    say(publisher.error().message);
    return kFailed;
  }
  const std::vector<std::string> endpoints = publisher->endpoints();

  moetrace::ReadyPipe starter(options.ready_fd);
  moetrace::Collector collector(
      options, std::move(*publisher),
      {.say = say,
       .writes = [&](const std::string& path) { starter.write_line("trace " + path); },
       .removed = [&](const std::string& path) { starter.write_line("removed " + path); }});
  if (!options.prints_only_faults()) say(ready_text(options, endpoints));
  moetrace::tell_service_manager("READY=1");
  starter.write_line(ready_line(endpoints));
  bool moved = true;
  for (int idle_rounds = 0; !collector.done();) {
    idle_rounds = moved ? 0 : std::min(idle_rounds + 1, 1000);
    wait(signals.get(),
         idle_rounds == 0 ? std::chrono::microseconds(0) : collector.pause_after(idle_rounds));
    const Asked asked = read_signals(signals.get());
    if (asked.stop) break;
    if (asked.hang_up) {
      reload(settings);
      collector.hang_up(settings.options);
    }
    moved = collector.round();
    starter.flush();
  }
  moetrace::tell_service_manager("STOPPING=1");
  collector.stop();
  starter.flush();
  return collector.failed() ? kFailed : 0;
}
