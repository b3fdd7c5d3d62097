// moetrace-peers: this ring beside other ways to pass 64-byte records to another process, in two
// tables.
//
// usage: moetrace-peers [--rounds N] [--seconds S] [--trials N] [PEER...]
#include <sched.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include "producer/peers/peer.hpp"
#include "producer/peers/process.hpp"
#include "producer/peers/shared.hpp"

namespace moetrace::peers {

namespace {

struct Peer {
  const char* name;  // for the command line
  const char* title;
  Result (*run)(const Options&);
};
constexpr Peer kPeers[] = {
    {"ring", "this ring", run_ring},
    {"spsc_queue", "boost::lockfree::spsc_queue in shared memory", run_spsc_queue},
    {"atomic_queue", "atomic_queue::AtomicQueue2 in shared memory", run_atomic_queue},
    {"message_queue", "boost::interprocess::message_queue", run_message_queue},
    {"iceoryx", "iceoryx", run_iceoryx},
    {"lttng", "LTTng-UST", run_lttng},
    {"spdlog", "spdlog, asynchronous, to a file", run_spdlog},
};

// A result, or why there is none, from a process of the peer's own: some keep state in theirs.
struct Outcome {
  Result result;
  bool ok = false;
  char failure[256] = "its process broke off";
};

Outcome run_apart(const Peer& peer, const Options& options) {
  constexpr double kTimeoutS = 600;
  const Shared<Outcome> outcome;
  const pid_t child = fork_child([&] {
    try {
      outcome->result = peer.run(options);
      outcome->ok = true;
    } catch (const std::exception& error) {
      std::snprintf(outcome->failure, sizeof outcome->failure, "%s", error.what());
    }
  });
  if (!ends_within(child, kTimeoutS)) {
    kill_child(child);
    std::snprintf(outcome->failure, sizeof outcome->failure, "it did not end in time");
  }
  return *outcome;
}

// All rounds of a peer.
struct Rounds {
  std::vector<Result> results;
  std::string failure;

  double median(double Result::*figure) const {
    std::vector<double> values;
    for (const Result& result : results) values.push_back(result.*figure);
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
  }
};

void print_speed(const Peer& peer, const Rounds& rounds) {
  if (rounds.results.empty()) {
    std::printf("| %-43s | can't run here: %s |\n", peer.title, rounds.failure.c_str());
    return;
  }
  std::uint64_t broken = 0;
  for (const Result& result : rounds.results) broken += result.broken;
  std::printf("| %-43s | %8.1f | %8.1f | %8.1f | %9.2f | %9.2f |%s\n", peer.title,
              rounds.median(&Result::p50), rounds.median(&Result::p99),
              rounds.median(&Result::p999), rounds.median(&Result::delivered) / 1e6,
              rounds.median(&Result::dropped) / 1e6, broken > 0 ? " BROKEN RECORDS" : "");
}

std::string text_of(const Survival& survival) {
  if (survival.impossible) return "its reader is a thread of the writer";
  char text[160];
  std::snprintf(text, sizeof text, "%llu of %llu lost%s; %d of %d stuck",
                static_cast<unsigned long long>(survival.lost),
                static_cast<unsigned long long>(survival.sent),
                survival.broken > 0 ? ", some broken" : "", survival.blocked, survival.trials);
  return text;
}

void print_survival(const Peer& peer, const Rounds& rounds) {
  if (rounds.results.empty()) return;
  const Result& result = rounds.results.front();
  std::printf("| %-43s | %-42s | %-42s |\n", peer.title, text_of(result.writer_killed).c_str(),
              text_of(result.reader_killed).c_str());
}

double number(const char* option, const char* text, double least) {
  char* end = nullptr;
  const double value = text == nullptr ? 0 : std::strtod(text, &end);
  if (text != nullptr && *text != '\0' && *end == '\0' && value >= least) return value;
  std::fprintf(stderr, "moetrace-peers: %s: expected a number of at least %g\n", option, least);
  std::exit(2);
}

int run_all(int argc, char** argv) {
  int rounds = 5;
  Options options;
  std::set<std::string> chosen;
  for (int n = 1; n < argc; ++n) {
    const std::string word = argv[n];
    const char* value = n + 1 < argc ? argv[n + 1] : nullptr;
    if (word == "--rounds") {
      rounds = static_cast<int>(number("--rounds", value, 1)), ++n;
    } else if (word == "--seconds") {
      options.seconds = number("--seconds", value, 0.01), ++n;
    } else if (word == "--trials") {
      options.trials = static_cast<int>(number("--trials", value, 0)), ++n;
    } else if (std::any_of(std::begin(kPeers), std::end(kPeers),
                           [&](const Peer& peer) { return word == peer.name; })) {
      chosen.insert(word);
    } else {
      std::fprintf(stderr,
                   "moetrace-peers: unknown word '%s'; use --rounds N, --seconds S, "
                   "--trials N, or peers:",
                   word.c_str());
      for (const Peer& peer : kPeers) std::fprintf(stderr, " %s", peer.name);
      std::fprintf(stderr, "\n");
      return 2;
    }
  }
  ::prctl(PR_SET_TIMERSLACK, 1UL);  // a reader's pause lasts as long as it says
  char folder[] = "/dev/shm/moetrace-peers-XXXXXX";
  if (::mkdtemp(folder) == nullptr) {
    std::fprintf(stderr, "moetrace-peers: can't make a folder in /dev/shm: %s\n",
                 std::strerror(errno));
    return 1;
  }
  options.folder = folder;
  options.lttng_module =
      std::filesystem::read_symlink("/proc/self/exe").parent_path() / "moetrace-peers-lttng.so";
  std::printf(
      "%s, %u cores; writer on core %d, reader on core %d; medians of %d rounds of %g s\n\n",
      bench::cpu_model().c_str(), std::thread::hardware_concurrency(), options.writer_core,
      options.reader_core, rounds, options.seconds);
  std::map<std::string, Rounds> all;
  const int trials = options.trials;
  for (int round = 0; round < rounds; ++round) {
    options.trials = round == 0 ? trials : 0;
    for (const Peer& peer : kPeers) {
      if (!chosen.empty() && !chosen.contains(peer.name)) continue;
      const Outcome outcome = run_apart(peer, options);
      if (outcome.ok) {
        all[peer.name].results.push_back(outcome.result);
      } else {
        all[peer.name].failure = outcome.failure;
      }
      std::fprintf(stderr, "round %d: %s%s%s\n", round + 1, peer.name, outcome.ok ? "" : ": ",
                   outcome.ok ? "" : outcome.failure);
    }
  }
  std::filesystem::remove_all(folder);
  std::printf("| %-43s | %8s | %8s | %8s | %9s | %9s |\n|---|---|---|---|---|---|\n",
              "ns a record, in blocks of 256; M records/s", "p50", "p99", "p99.9", "delivered",
              "dropped");
  for (const Peer& peer : kPeers) {
    if (all.contains(peer.name)) print_speed(peer, all[peer.name]);
  }
  if (trials == 0) return 0;
  std::printf("\n| %-43s | %-42s | %-42s |\n|---|---|---|\n", "SIGKILL", "of the writer",
              "of the reader, then a new one");
  for (const Peer& peer : kPeers) {
    if (all.contains(peer.name)) print_survival(peer, all[peer.name]);
  }
  return 0;
}

}  // namespace
}  // namespace moetrace::peers

int main(int argc, char** argv) {
  return moetrace::peers::run_all(argc, argv);
}
