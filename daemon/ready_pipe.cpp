#include "daemon/ready_pipe.hpp"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace moetrace {

ReadyPipe::ReadyPipe(int fd) : fd_(fd) {
  // The reader waits for the end of the collector; a plotter must not keep the pipe open.
  if (fd_.valid()) ::fcntl(fd_.get(), F_SETFD, FD_CLOEXEC);
}

void ReadyPipe::write_line(const std::string& line) {
  if (!fd_.valid()) return;
  pending_ += line + "\n";
  flush();
}

void ReadyPipe::flush() {
  while (fd_.valid() && !pending_.empty()) {
    // A writable pipe takes PIPE_BUF bytes without blocking. O_NONBLOCK would change the descriptor
    // for every process that shares it, such as the other users of a terminal.
    pollfd writable{fd_.get(), POLLOUT, 0};
    if (::poll(&writable, 1, 0) <= 0) return;
    const std::size_t count = std::min<std::size_t>(pending_.size(), PIPE_BUF);
    const ssize_t wrote = ::write(fd_.get(), pending_.data(), count);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) {
      // The reader has closed its end.
      fd_.reset();
      pending_.clear();
      return;
    }
    pending_.erase(0, static_cast<std::size_t>(wrote));
  }
}

}  // namespace moetrace
