#include "daemon/cli/group_watch.hpp"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <system_error>
#include <vector>

namespace moetrace::cli {
namespace {

// Erases the command line that ps and pkill -f show for this process. Otherwise a signal to
// "moetrace run" by name would reach this process too, and look like a signal to the group.
void forget_command_line() {
  // Fields of /proc/self/stat; the state is the first one after the name in brackets.
  constexpr int kStateField = 3;
  constexpr int kArgStartField = 48;
  std::ifstream file("/proc/self/stat");
  std::string text;
  std::getline(file, text);
  const std::size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) return;
  std::istringstream fields(text.substr(name_end + 1));
  std::string skipped;
  for (int n = kStateField; n < kArgStartField; ++n) fields >> skipped;
  std::uintptr_t begin = 0;
  std::uintptr_t end = 0;
  if (fields >> begin >> end && begin < end)
    std::memset(reinterpret_cast<void*>(begin), 0, end - begin);
}

// Closes all files. close_range() would need glibc 2.34 and Linux 5.9.
void close_files() {
  std::vector<int> numbers;
  std::error_code failed;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd", failed))
    numbers.push_back(std::atoi(entry.path().filename().c_str()));
  for (const int number : numbers) ::close(number);
}

[[noreturn]] void watch(pid_t parent) {
  sigset_t all;
  ::sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, nullptr);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  // The parent died before the prctl().
  if (::getppid() != parent) ::_exit(0);
  ::prctl(PR_SET_NAME, "signal-watch");
  forget_command_line();
  close_files();
  while (true) ::pause();
}

}  // namespace

GroupWatch GroupWatch::start() {
  GroupWatch group;
  // Block before the fork: from then on the group's signals stay pending.
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, &before);
  const pid_t parent = ::getpid();
  group.pid_ = ::fork();
  if (group.pid_ == 0) watch(parent);
  ::sigprocmask(SIG_SETMASK, &before, nullptr);
  return group;
}

std::uint64_t GroupWatch::seen() const {
  if (pid_ <= 0) return 0;
  std::ifstream status("/proc/" + std::to_string(pid_) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("ShdPnd:")) return std::stoull(line.substr(7), nullptr, 16);
  }
  return 0;
}

GroupWatch::~GroupWatch() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

}  // namespace moetrace::cli
