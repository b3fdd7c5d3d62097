// The clock that measures what tracing costs the engine's threads.
#pragma once

#include <cstdint>
#include <ctime>

namespace moetrace {

inline std::int64_t monotonic_ns() {
  timespec now{};
  // Through the vDSO: no system call.
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

// Adds the time between its construction and destruction to a total.
class AddTime {
 public:
  explicit AddTime(std::uint64_t& total_ns) : total_ns_(total_ns), begin_ns_(monotonic_ns()) {}
  ~AddTime() { total_ns_ += static_cast<std::uint64_t>(monotonic_ns() - begin_ns_); }
  AddTime(const AddTime&) = delete;
  AddTime& operator=(const AddTime&) = delete;

 private:
  std::uint64_t& total_ns_;
  const std::int64_t begin_ns_;
};

}  // namespace moetrace
