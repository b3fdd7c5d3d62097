// The collector daemon.
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <cstdio>

#include "command_line/program.hpp"
#include "daemon/collector/collector.hpp"
#include "daemon/collector/output_path.hpp"
#include "daemon/endpoints.hpp"
#include "daemon/ready_pipe.hpp"
#include "shm/file_lock.hpp"
#include "shm/session_claim.hpp"

namespace {

constexpr int kFailed = 1;
constexpr int kUsage = 2;

void say(const std::string& line) {
  std::fprintf(stderr, "moetraced: %s\n", line.c_str());
}

// SIGINT and SIGTERM as a descriptor: the loop ends between two rounds.
moetrace::UniqueFd stop_signals() {
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, SIGINT);
  ::sigaddset(&set, SIGTERM);
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  return moetrace::UniqueFd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
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

// Waits for a signal, a subscriber or the time. True: asked to stop. Work that follows work waits
// for nothing; an idle collector sleeps up to 2 ms beside a living trace (its ring holds far more
// than that) and up to 50 ms without one.
bool wait(int signals, int publisher, bool moved, bool no_trace, int& idle_rounds) {
  idle_rounds = moved ? 0 : idle_rounds + 1;
  timespec pause{0, 0};
  if (idle_rounds > 0)
    pause.tv_nsec = no_trace ? 50'000'000 : std::min(idle_rounds * 50'000, 2'000'000);
  pollfd descriptors[2] = {{signals, POLLIN, 0}, {publisher, POLLIN, 0}};
  ::ppoll(descriptors, publisher >= 0 ? 2 : 1, &pause, nullptr);
  return (descriptors[0].revents & POLLIN) != 0;
}

}  // namespace

int main(int argc, char** argv) {
  moetrace::command_line::begin_program();
  const auto parsed = moetrace::parse_collector_options(argc, argv);
  if (!parsed) {
    say(parsed.error().message);
    return kUsage;
  }
  if (parsed->help) {
    std::fputs(parsed->help->c_str(), stdout);
    return moetrace::command_line::end_program("moetraced", 0);
  }
  moetrace::CollectorOptions options = parsed->options;
  if (options.publish.empty()) options.publish = {moetrace::default_endpoint(options.session)};
  if (options.publish.front() == "none") options.publish.clear();

  const moetrace::UniqueFd signals = stop_signals();
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
  if (const auto error = moetrace::prepare_output(options)) {
    say(error->message);
    return kFailed;
  }
  auto publisher = moetrace::Publisher::bind(options.publish);
  if (!publisher) {
    say(publisher.error().message);
    return kFailed;
  }
  const std::vector<std::string> endpoints = publisher->endpoints();

  moetrace::Collector collector(options, std::move(*publisher), say);
  const moetrace::EndpointList listed(options.session, endpoints);
  if (!options.quiet) say(ready_text(options, endpoints));
  ::sd_notify(0, "READY=1");
  moetrace::ReadyPipe starter(options.ready_fd);
  starter.write_line(ready_line(endpoints));
  collector.on_trace([&](const std::string& path) { starter.write_line("trace " + path); });
  bool moved = true;
  for (int idle_rounds = 0; !wait(signals.get(), collector.publisher().descriptor(), moved,
                                  collector.idle(), idle_rounds);) {
    moved = collector.round();
    starter.flush();
    if (collector.done()) break;
  }
  ::sd_notify(0, "STOPPING=1");
  collector.stop();
  starter.flush();
  return collector.failed() ? kFailed : 0;
}
