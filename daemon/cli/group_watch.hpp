// Tells a signal that was sent to the whole process group from one that was sent to us alone.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <utility>

namespace moetrace::cli {

// A process of our group that only waits, with all signals blocked. kill(2) and the terminal give a
// group's signal to all its processes at once, and so it is pending there, too. The kernel keeps
// the answer, however late that process is scheduled.
class GroupWatch {
 public:
  GroupWatch() = default;
  GroupWatch(GroupWatch&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}
  GroupWatch& operator=(GroupWatch&& other) noexcept {
    std::swap(pid_, other.pid_);
    return *this;
  }
  ~GroupWatch();

  // Watches from now on. One that can't be started sees nothing.
  static GroupWatch start();
  // Bit N - 1: signal N has come to the group since the start.
  std::uint64_t seen() const;
  // Called for each child that was reaped.
  void note_child(pid_t pid) {
    if (pid == pid_) pid_ = -1;
  }

 private:
  pid_t pid_ = -1;
};

}  // namespace moetrace::cli
