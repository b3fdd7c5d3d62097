// Distinguishes a signal to the whole process group from a signal to us alone.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <utility>

namespace moetrace::cli {

// A process of our group that only waits, with all signals blocked. kill(2) and the terminal signal
// all processes of a group at once, so the signal is pending there, too. The kernel keeps it,
// however late that process is scheduled.
class GroupWatch {
 public:
  GroupWatch() = default;
  GroupWatch(GroupWatch&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}
  GroupWatch& operator=(GroupWatch&& other) noexcept {
    std::swap(pid_, other.pid_);
    return *this;
  }
  ~GroupWatch();

  // Watches from now on. If the process can't be started, it sees nothing.
  static GroupWatch start();
  // Bit N - 1: the group has got signal N since the start.
  std::uint64_t seen() const;
  // Call it for each reaped child.
  void note_child(pid_t pid) {
    if (pid == pid_) pid_ = -1;
  }

 private:
  pid_t pid_ = -1;
};

}  // namespace moetrace::cli
