// The first and the last thing that each program does.
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
  // A closed standard descriptor: the next file that we open would take its number and receive its
  // output. Fill the number with /dev/null, opened the wrong way round so that using it still
  // fails.
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(fd, F_GETFD) < 0) ::open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
  }
  // Its default action ends the process; ignored, a write beyond the file size limit fails with
  // EFBIG.
  ::signal(SIGXFSZ, SIG_IGN);
}

// Returns the exit code of `program`. If `exit_code` is 0 but standard output could not be written,
// prints a line and returns 1. A reader that closes early (| head) is not a failure.
inline int end_program(const char* program, int exit_code) {
  errno = 0;
  const bool flushed = std::fflush(stdout) == 0;
  const int failed = errno;
  if (exit_code != 0 || (flushed && std::ferror(stdout) == 0)) return exit_code;
  pollfd reader{STDOUT_FILENO, POLLOUT, 0};
  if (::poll(&reader, 1, 0) > 0 && (reader.revents & POLLERR) != 0) return exit_code;
  std::fprintf(stderr,
               "%s: standard output: can't write all of it%s%s; redirect it to a disk with space\n",
               program, failed != 0 ? ": " : "", failed != 0 ? std::strerror(failed) : "");
  return 1;
}

}  // namespace moetrace::command_line
