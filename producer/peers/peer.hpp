// What every peer of the benchmark implements, and what the harness (harness.hpp) passes to it.
//
// A peer is a class with these members. The benchmark's process makes it and forks a writer and a
// reader, each pinned to a core of its own; both have the object as it was then.
//
// clang-format off
//   static constexpr std::uint64_t kBurst    records that fit without a reader, a multiple of kBlock
//   Peer(const Options&)                     makes what both share; starts daemons
//   open_writer(), close_writer()            in the writer
//   bool send(const Record&)                 in the writer; false: no room, dropped
//   static constexpr bool kLive              true: a reader process takes records while they come
//   open_reader(), read(Checker&)            in the reader, if live; read() takes what is there
//   collect(Checker&)                        else, after the writer's end, in the benchmark's process
//   pid_t consumer()                         else; the process that takes the records, 0: none
// clang-format on
#pragma once

#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <string>

#include "common/bench_machine.hpp"

namespace moetrace::peers {

// 64 bytes, as a record of this ring for up to top-8. This ring keeps its commit word in the first
// 8 bytes; peers pass them on and keep their own state beside the record.
struct Record {
  std::uint64_t word = kMark;
  std::uint64_t number = 0;
  std::array<std::uint64_t, 5> data{11, 22, 33, 44, 55};
  std::uint64_t checksum = 0;

  // Where records have to be found in a file.
  static constexpr std::uint64_t kMark = 0x7065657273'6d6f65;

  static std::uint64_t checksum_of(std::uint64_t number) { return ~number * 0x9E3779B97F4A7C15u; }
  void set(std::uint64_t n) {
    number = n;
    checksum = checksum_of(n);
  }
  bool is_whole() const {
    return checksum == checksum_of(number) && data[0] == 11 && data[4] == 55;
  }
};
static_assert(sizeof(Record) == 64);

// Checks the records that a reader gets. Lies in shared memory, so that it outlives the reader.
struct Checker {
  std::atomic<std::uint64_t> count = 0;
  // The first number that is still to come.
  std::uint64_t next = 0;
  // The first number that came.
  std::uint64_t first = ~std::uint64_t{0};
  std::uint64_t missing = 0;
  std::uint64_t repeated = 0;
  std::uint64_t broken = 0;

  void add(const Record& record) {
    if (!record.is_whole()) {
      ++broken;
      return;
    }
    if (count == 0) next = first = record.number;
    if (record.number < next) {
      ++repeated;
    } else {
      missing += record.number - next;
      next = record.number + 1;
    }
    // relaxed: a running total for others to look at; one thread writes it.
    count.store(count.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
};

// Records that are timed together.
inline constexpr std::uint64_t kBlock = 256;
// The records that a queue holds, 4 MiB, if it can be chosen.
inline constexpr std::uint64_t kCapacity = 65'536;

struct Options {
  // A folder on tmpfs of this peer's own.
  std::string folder;
  int writer_core = 0;
  int reader_core = 1;
  double seconds = 1;
  int trials = 20;
  // The module with the tracepoint of LTTng.
  std::string lttng_module;
};

struct Survival {
  int trials = 0;
  // Trials after which the other side made no progress any more.
  int blocked = 0;
  // Over all trials: records sent, and those of them that no reader got.
  std::uint64_t sent = 0;
  std::uint64_t lost = 0;
  std::uint64_t repeated = 0;
  std::uint64_t broken = 0;
  // Not measured: the reader is a thread of the writer.
  bool impossible = false;
};

struct Result {
  // Nanoseconds a record, in blocks of kBlock.
  double p50 = 0, p99 = 0, p999 = 0;
  // Records a second at full speed.
  double delivered = 0, dropped = 0;
  std::uint64_t broken = 0;
  Survival writer_killed, reader_killed;
};

using bench::now_ns;
using bench::pin_to;

// Each in a file of its own. They throw std::runtime_error with one line if the peer can't run.
Result run_ring(const Options& options);
Result run_message_queue(const Options& options);
Result run_spsc_queue(const Options& options);
Result run_atomic_queue(const Options& options);
Result run_iceoryx(const Options& options);
Result run_lttng(const Options& options);
Result run_spdlog(const Options& options);

}  // namespace moetrace::peers
