// What each program does first and last.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <initializer_list>

namespace moetrace::command_line {

inline void begin_program() {
  // The next file that is opened would take the number of a closed standard descriptor, and get
  // what is meant for that. Opened the wrong way round, so that using it stays an error.
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(fd, F_GETFD) < 0) ::open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
  }
  // A write beyond the file size limit fails with EFBIG, as one on a full disk does with ENOSPC.
  ::signal(SIGXFSZ, SIG_IGN);
}

// The exit code of `program`: 1, with a line, where it ended well and standard output could not be
// written. A program that has failed has said why. A reader that has enough (| head) is not a
// failure.
inline int end_program(const char* program, int exit_code) {
  errno = 0;
  const bool flushed = std::fflush(stdout) == 0;
  const int failed = errno;
  if (exit_code != 0 || (flushed && std::ferror(stdout) == 0)) return exit_code;
  pollfd reader{STDOUT_FILENO, POLLOUT, 0};
  if (::poll(&reader, 1, 0) > 0 && (reader.revents & POLLERR) != 0) return exit_code;
  std::fprintf(stderr,
               "%s: standard output: can't write all of it%s%s; send it where there is room\n",
               program, failed != 0 ? ": " : "", failed != 0 ? std::strerror(failed) : "");
  return 1;
}

}  // namespace moetrace::command_line
