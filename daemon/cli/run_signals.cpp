#include "daemon/cli/run_signals.hpp"

#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

namespace moetrace::cli {
namespace {

constexpr int kInterrupts[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM};
constexpr int kOthers[] = {SIGUSR1, SIGUSR2};
// A sender may signal us and then the group, as timeout(1) does. Wait this long, so that the kernel
// merges the second signal into the pending first one.
constexpr int kSettleMs = 20;

std::uint64_t bit(int number) {
  return std::uint64_t{1} << (number - 1);
}

UniqueFd descriptor_of(const sigset_t& set) {
  return UniqueFd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
}

int next_signal(const UniqueFd& fd) {
  signalfd_siginfo signal{};
  return ::read(fd.get(), &signal, sizeof signal) == sizeof signal
             ? static_cast<int>(signal.ssi_signo)
             : 0;
}

std::uint64_t take_all(const UniqueFd& fd) {
  std::uint64_t taken = 0;
  while (const int number = next_signal(fd)) taken |= bit(number);
  return taken;
}

bool ignored(int number) {
  struct sigaction action {};
  return ::sigaction(number, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

}  // namespace

RunSignals::RunSignals() {
  // A closed standard error must not cost COMMAND's exit status.
  ::signal(SIGPIPE, SIG_IGN);
  // An ignored SIGCHLD would discard the exit statuses.
  ::signal(SIGCHLD, SIG_DFL);
  sigset_t children;
  sigset_t for_command;
  sigset_t for_us;
  for (sigset_t* set : {&children, &for_command, &for_us}) ::sigemptyset(set);
  ::sigaddset(&children, SIGCHLD);
  for (const int number : kInterrupts) {
    ::sigaddset(&for_command, number);
    if (!ignored(number)) ::sigaddset(&for_us, number);
  }
  for (const int number : kOthers) ::sigaddset(&for_command, number);
  children_ = descriptor_of(children);
  for_command_ = descriptor_of(for_command);
  for_us_ = descriptor_of(for_us);
  ::sigprocmask(SIG_BLOCK, &children, nullptr);
  ::sigprocmask(SIG_BLOCK, &for_command, nullptr);
}

void RunSignals::note_children() const {
  take_all(children_);
}

void RunSignals::pass_on(pid_t command) {
  ::poll(nullptr, 0, kSettleMs);
  const std::uint64_t taken = take_all(for_command_);
  // Start the next watch before asking the last one: then no signal falls between the two.
  GroupWatch next = GroupWatch::start();
  const std::uint64_t seen = group_.seen() | seen_early_;
  group_ = std::move(next);
  seen_early_ = seen & ~taken;
  const bool in_group = ::getpgid(command) == ::getpgrp();
  for (int number = 1; number <= SIGSYS; ++number) {
    if ((taken & bit(number)) == 0 || (in_group && (seen & bit(number)) != 0)) continue;
    ::kill(command, number);
  }
}

void RunSignals::end_watch() {
  ::poll(nullptr, 0, kSettleMs);
  take_all(for_command_);
  group_ = GroupWatch();
}

int RunSignals::take_interrupt() const {
  return next_signal(for_us_);
}

}  // namespace moetrace::cli
