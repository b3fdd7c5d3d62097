#include "daemon/cli/run_collector.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <string_view>

#include "common/child.hpp"
#include "daemon/cli/outcome.hpp"

namespace moetrace::cli {
namespace {

// A start takes about 10 ms; a machine under load needs far longer.
constexpr auto kReadyTimeout = std::chrono::seconds(30);

}  // namespace

RunCollector::RunCollector(std::string directory, std::string session, std::string output,
                           std::vector<std::string> publish)
    : directory_(std::move(directory)),
      session_(std::move(session)),
      output_(std::move(output)),
      publish_(std::move(publish)) {}

std::string RunCollector::start(int interrupt_fd) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0)
    return std::string("can't make a pipe: ") + std::strerror(errno) +
           "; raise the limit of open files (ulimit -n)";
  // The last lines of the collector before this one.
  read_lines();
  lines_ = UniqueFd(ends[0]);
  ::fcntl(lines_.get(), F_SETFL, O_NONBLOCK);
  unread_.clear();
  ready_ = false;
  UniqueFd write_end(ends[1]);
  ChildSetup setup;
  setup.arguments = {sibling_program("moetraced"), "--session", session_, "--directory", directory_,
                     "--output", output_,
                     // Whatever the configuration file says: COMMAND may make several traces.
                     "--no-once", "--ready-fd", std::to_string(write_end.get())};
  for (const std::string& endpoint : publish_) {
    setup.arguments.insert(setup.arguments.end(), {"--publish", endpoint});
  }
  setup.inherited_fd = write_end.get();
  setup.helper = true;
  const Spawned child = spawn(setup);
  if (child.pid < 0)
    return "can't start " + setup.arguments[0] + ": " + std::strerror(child.error_number) +
           "; install it next to moetrace";
  pid_ = child.pid;
  write_end.reset();
  return wait_until_ready(interrupt_fd);
}

std::string RunCollector::wait_until_ready(int interrupt_fd) {
  const auto deadline = std::chrono::steady_clock::now() + kReadyTimeout;
  while (!ready_) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) return "it was not ready in time";
    pollfd descriptors[2] = {{lines_.get(), POLLIN, 0}, {interrupt_fd, POLLIN, 0}};
    ::poll(descriptors, 2, static_cast<int>(left.count()));
    // The caller handles the interrupt.
    if (descriptors[1].revents != 0) return {};
    if (descriptors[0].revents == 0) continue;
    read_lines();
    if (ready_ || lines_.valid()) continue;
    // It closed the pipe: it is ending, and has printed why.
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    note_child(pid_, status);
    return "it did not start";
  }
  return {};
}

void RunCollector::read_lines() {
  char text[4096];
  while (lines_.valid()) {
    const ssize_t got = ::read(lines_.get(), text, sizeof text);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
      lines_.reset();
      return;
    }
    unread_.append(text, static_cast<std::size_t>(got));
    for (std::size_t end; (end = unread_.find('\n')) != std::string::npos;) {
      take_line(unread_.substr(0, end));
      unread_.erase(0, end + 1);
    }
  }
}

void RunCollector::take_line(const std::string& line) {
  constexpr std::string_view kTrace = "trace ";
  constexpr std::string_view kRemoved = "removed ";
  if (line.starts_with(kRemoved)) {
    std::erase(traces_, line.substr(kRemoved.size()));
    return;
  }
  if (!line.starts_with(kTrace)) {
    ready_ = ready_ || line.starts_with("ready");
    return;
  }
  // A restarted collector names the traces that it continues.
  std::string path = line.substr(kTrace.size());
  if (std::find(traces_.begin(), traces_.end(), path) == traces_.end())
    traces_.push_back(std::move(path));
}

bool RunCollector::note_child(pid_t pid, int wait_status) {
  if (pid_ <= 0 || pid != pid_) return false;
  pid_ = -1;
  const int code = exit_code_of(wait_status);
  ended_well_ = code == 0;
  refused_settings_ = WIFEXITED(wait_status) && code == kUsage;
  how_it_ended_ = WIFSIGNALED(wait_status) ? "signal " + std::to_string(WTERMSIG(wait_status))
                                           : "status " + std::to_string(code);
  read_lines();
  return true;
}

void RunCollector::send(int number) const {
  if (pid_ > 0) ::kill(pid_, number);
}

}  // namespace moetrace::cli
