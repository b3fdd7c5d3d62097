#include "common/child.hpp"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "common/unique_fd.hpp"

namespace moetrace {
namespace {

void become_helper(pid_t parent) {
  ::setsid();
  ::signal(SIGHUP, SIG_IGN);
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  // The parent died before prctl().
  if (::getppid() != parent) ::_exit(0);
  const int null = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (null >= 0) ::dup2(null, STDIN_FILENO);
  ::dup2(STDERR_FILENO, STDOUT_FILENO);
}

// Runs in the child, up to exec. Returns errno if exec failed.
int become(const ChildSetup& setup, pid_t parent, char* const* arguments) {
  if (setup.helper) become_helper(parent);
  ::signal(SIGPIPE, SIG_DFL);
  ::signal(SIGXFSZ, SIG_DFL);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  for (const auto& [name, value] : setup.environment) ::setenv(name.c_str(), value.c_str(), 1);
  if (setup.inherited_fd >= 0) ::fcntl(setup.inherited_fd, F_SETFD, 0);
  ::execvp(arguments[0], arguments);
  return errno;
}

}  // namespace

Spawned spawn(const ChildSetup& setup) {
  std::vector<char*> arguments;
  for (const std::string& argument : setup.arguments)
    arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return {-1, errno};
  const UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) return {-1, errno};
  if (pid == 0) {
    const int failed = become(setup, parent, arguments.data());
    [[maybe_unused]] const ssize_t wrote = ::write(write_end.get(), &failed, sizeof failed);
    ::_exit(127);
  }
  write_end.reset();
  // A successful exec closes the pipe, and the read gets no bytes.
  int failed = 0;
  ssize_t got;
  do {
    got = ::read(read_end.get(), &failed, sizeof failed);
  } while (got < 0 && errno == EINTR);
  if (got != sizeof failed) return {pid, 0};
  ::waitpid(pid, nullptr, 0);
  return {-1, failed};
}

int exit_code_of(int wait_status) {
  return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}

std::string sibling_program(const std::string& program) {
  std::error_code failed;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", failed);
  if (!failed) {
    std::string beside = (self.parent_path() / program).string();
    if (::access(beside.c_str(), X_OK) == 0) return beside;
  }
  return program;
}

}  // namespace moetrace
