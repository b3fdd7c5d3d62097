// What the benchmarks share: the machine's name, its clock, and its cores. For programs of one
// source that are not installed.
#pragma once

#include <sched.h>
#include <time.h>

#include <cstdint>
#include <fstream>
#include <string>

namespace moetrace::bench {

inline std::string cpu_model() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown processor";
}

// Nanoseconds of the monotonic clock.
inline std::int64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

// Fails on a machine with too few cores; each table's head says how many there are.
inline void pin_to(int core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  ::sched_setaffinity(0, sizeof set, &set);
}

}  // namespace moetrace::bench
