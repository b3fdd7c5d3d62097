// Measures one peer: blocks of records without loss, full speed, and SIGKILL of either side.
#pragma once

#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <random>
#include <stdexcept>
#include <vector>

#include "producer/peers/peer.hpp"
#include "producer/peers/process.hpp"
#include "producer/peers/shared.hpp"

namespace moetrace::peers {

inline constexpr std::uint64_t kBlocks = 8192;

// What writer, readers and the benchmark tell one another.
struct Progress {
  std::atomic<bool> reader_ready = false;
  std::atomic<bool> stop_writer = false;
  std::atomic<bool> stop_reader = false;
  // Calls of send().
  std::atomic<std::uint64_t> attempts = 0;
  // Those of them that returned true.
  std::atomic<std::uint64_t> sent = 0;
  // The first reader's, and that of the one after it.
  Checker checkers[2];
  // Full speed: what was sent before it, and how it went.
  std::uint64_t sent_before = 0, attempts_before = 0;
  std::int64_t full_speed_ns = 0;
  std::uint64_t blocks = 0;
  float block_ns[kBlocks];
};

// The writer's side of a run.
template <class Peer>
class Writer {
 public:
  Writer(Peer& peer, Progress& progress) : peer_(peer), progress_(progress) {}

  void block() {
    for (std::uint64_t n = 0; n < kBlock; ++n) send();
  }
  void send() {
    record_.set(sent_);
    sent_ += peer_.send(record_) ? 1 : 0;
    ++attempts_;
  }
  // relaxed: running totals, exact once the writer has ended.
  void tell() {
    progress_.attempts.store(attempts_, std::memory_order_relaxed);
    progress_.sent.store(sent_, std::memory_order_relaxed);
  }
  std::uint64_t sent() const { return sent_; }
  // Until the reader has all records that were sent, or has taken none for `most_ns`. Readers that
  // are not live get that time.
  void catch_up(std::int64_t most_ns) {
    tell();
    if (!Peer::kLive) {
      ::usleep(static_cast<useconds_t>(most_ns / 1000));
      return;
    }
    const std::atomic<std::uint64_t>& count = progress_.checkers[0].count;
    std::uint64_t seen = count;
    for (std::int64_t since = now_ns(); seen < sent_ && !progress_.stop_writer;) {
      if (now_ns() - since > most_ns) return;
      ::sched_yield();
      if (count != seen) seen = count, since = now_ns();
    }
  }

 private:
  Peer& peer_;
  Progress& progress_;
  Record record_;
  std::uint64_t sent_ = 0, attempts_ = 0;
};

// Bursts that fit, then full speed.
template <class Peer>
void write_all(Peer& peer, Progress& progress, const Options& options) {
  constexpr std::int64_t kCatchUpNs = 20'000'000;
  constexpr int kWarmBursts = 3;
  pin_to(options.writer_core);
  peer.open_writer();
  while (Peer::kLive && !progress.reader_ready) ::usleep(1000);
  Writer<Peer> writer(peer, progress);
  const std::uint64_t blocks = std::min<std::uint64_t>(kBlocks, Peer::kBurst / kBlock * 4000);
  for (int burst = -kWarmBursts; progress.blocks < blocks; ++burst) {
    for (std::uint64_t n = 0; n < Peer::kBurst / kBlock && progress.blocks < blocks; ++n) {
      const std::int64_t begin = now_ns();
      writer.block();
      const float ns = static_cast<float>(now_ns() - begin) / kBlock;
      if (burst >= 0) progress.block_ns[progress.blocks++] = ns;
    }
    writer.catch_up(kCatchUpNs);
  }
  progress.sent_before = progress.sent;
  progress.attempts_before = progress.attempts;
  const std::int64_t begin = now_ns();
  const std::int64_t end = begin + static_cast<std::int64_t>(options.seconds * 1e9);
  while (now_ns() < end) writer.block();
  progress.full_speed_ns = now_ns() - begin;
  writer.tell();
  peer.close_writer();
}

// Until it is told to stop; then what is left.
template <class Peer>
void read_all(Peer& peer, Progress& progress, Checker& checker, const Options& options) {
  constexpr useconds_t kIdleUs = 50;  // as moetraced waits when it has caught up
  pin_to(options.reader_core);
  peer.open_reader();
  progress.reader_ready = true;
  for (bool stop = false;;) {
    const std::uint64_t before = checker.count;
    peer.read(checker);
    if (checker.count != before) continue;
    if (stop) return;
    stop = progress.stop_reader;
    if (!stop) ::usleep(kIdleUs);
  }
}

template <class Peer>
pid_t start_reader(Peer& peer, Progress& progress, int which, const Options& options) {
  if constexpr (Peer::kLive) {
    return fork_child([&] { read_all(peer, progress, progress.checkers[which], options); });
  }
  return 0;
}

// Lets the reader take what is left. False: it does not end, and is killed, or it has failed.
template <class Peer>
bool finish_reader(Peer& peer, Progress& progress, pid_t reader) {
  if constexpr (Peer::kLive) {
    progress.stop_reader = true;
    int status = 0;
    if (ends_within(reader, 3, &status)) return status == 0;
    kill_child(reader);
    return false;
  } else {
    peer.collect(progress.checkers[0]);
    return true;
  }
}

template <class Peer>
void measure_speed(const Options& options, Result& result) {
  const auto peer = std::make_unique<Peer>(options);
  const Shared<Progress> progress;
  const pid_t reader = start_reader(*peer, *progress, 0, options);
  const pid_t writer = fork_child([&] { write_all(*peer, *progress, options); });
  const bool wrote = ends_within(writer, 120);
  if (!wrote) kill_child(writer);
  const bool read = finish_reader(*peer, *progress, reader);
  if (!wrote || progress->full_speed_ns == 0) throw std::runtime_error("the writer did not end");
  if (!read) throw std::runtime_error("the reader did not end");
  std::vector<float> ns(progress->block_ns, progress->block_ns + progress->blocks);
  std::sort(ns.begin(), ns.end());
  const auto part = [&](double p) { return ns[static_cast<std::size_t>(p * (ns.size() - 1))]; };
  result.p50 = part(0.5), result.p99 = part(0.99), result.p999 = part(0.999);
  const Checker& checker = progress->checkers[0];
  const double seconds = static_cast<double>(progress->full_speed_ns) / 1e9;
  const std::uint64_t delivered =
      checker.count > progress->sent_before ? checker.count - progress->sent_before : 0;
  result.delivered = static_cast<double>(delivered) / seconds;
  result.dropped =
      static_cast<double>(progress->attempts - progress->attempts_before - delivered) / seconds;
  result.broken = checker.broken + checker.repeated;
}

// For the trials with SIGKILL: bursts, as fast as the reader follows, else one a millisecond.
template <class Peer>
void write_on(Peer& peer, Progress& progress, const Options& options) {
  pin_to(options.writer_core);
  peer.open_writer();
  while (Peer::kLive && !progress.reader_ready) ::usleep(1000);
  Writer<Peer> writer(peer, progress);
  while (!progress.stop_writer) {
    for (std::uint64_t n = 0; n < Peer::kBurst / 2 && !progress.stop_writer; ++n) {
      writer.send();
      writer.tell();
    }
    writer.catch_up(1'000'000);
  }
  peer.close_writer();
}

inline void wait_at_random() {
  static std::mt19937 random(std::random_device{}());
  ::usleep(5'000 + random() % 5'000);
}

// False: the counter does not grow within a second.
inline bool grows(const std::atomic<std::uint64_t>& counter) {
  const std::uint64_t before = counter;
  for (int n = 0; n < 1000; ++n) {
    if (counter > before + kBlock) return true;
    ::usleep(1000);
  }
  return false;
}

inline void count(Survival& survival, const Progress& progress) {
  const Checker &first = progress.checkers[0], &second = progress.checkers[1];
  const std::uint64_t got = first.count + second.count - first.repeated - second.repeated;
  // The new reader may repeat what the killed one had taken, and not yet given back.
  const std::uint64_t twice =
      second.count > 0 && second.first < first.next ? first.next - second.first : 0;
  const std::uint64_t sent = progress.sent;
  survival.sent += sent;
  survival.lost += sent > got - twice ? sent - (got - twice) : 0;
  survival.repeated += first.repeated + second.repeated + twice;
  survival.broken += first.broken + second.broken;
}

struct Both {
  pid_t reader;
  pid_t writer;
};
// Starts both sides and waits until records flow.
template <class Peer>
Both start_both(Peer& peer, Progress& progress, const Options& options) {
  const pid_t reader = start_reader(peer, progress, 0, options);
  const pid_t writer = fork_child([&] { write_on(peer, progress, options); });
  if (!grows(progress.sent) && !grows(progress.sent)) {
    kill_child(writer);
    if (reader > 0) kill_child(reader);
    throw std::runtime_error("the writer did not begin");
  }
  return {reader, writer};
}

template <class Peer>
void kill_writer(const Options& options, Survival& survival) {
  const auto peer = std::make_unique<Peer>(options);
  const Shared<Progress> progress;
  const auto [reader, writer] = start_both(*peer, *progress, options);
  wait_at_random();
  kill_child(writer);
  ++survival.trials;
  if (!finish_reader(*peer, *progress, reader)) ++survival.blocked;
  count(survival, *progress);
}

template <class Peer>
void kill_reader(const Options& options, Survival& survival) {
  const auto peer = std::make_unique<Peer>(options);
  const Shared<Progress> progress;
  const auto [reader, writer] = start_both(*peer, *progress, options);
  wait_at_random();
  if constexpr (Peer::kLive) {
    kill_child(reader);
  } else {
    const pid_t consumer = peer->consumer();
    if (consumer == 0) {
      kill_child(writer);
      survival.impossible = true;
      return;
    }
    ::kill(consumer, SIGKILL);
  }
  ++survival.trials;
  bool goes_on = grows(progress->attempts);
  const pid_t next = start_reader(*peer, *progress, 1, options);
  ::usleep(20'000);
  progress->stop_writer = true;
  int status = 0;
  if (!ends_within(writer, 3, &status)) kill_child(writer), status = -1;
  if (status != 0) goes_on = false;
  if (!finish_reader(*peer, *progress, next)) goes_on = false;
  if (!goes_on) ++survival.blocked;
  count(survival, *progress);
}

// All of it, once.
template <class Peer>
Result run(const Options& options) {
  Result result;
  measure_speed<Peer>(options, result);
  for (int n = 0; n < options.trials; ++n) {
    kill_writer<Peer>(options, result.writer_killed);
    if (!result.reader_killed.impossible) kill_reader<Peer>(options, result.reader_killed);
  }
  return result;
}

}  // namespace moetrace::peers
