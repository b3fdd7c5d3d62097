#include "producer/peers/process.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <map>
#include <stdexcept>

#include "producer/peers/peer.hpp"

namespace moetrace::peers {
namespace {

std::string last_line(const std::string& path) {
  std::ifstream file(path);
  std::string last;
  for (std::string line; std::getline(file, line);) {
    if (!line.empty()) last = line;
  }
  return last;
}

// Whether `process` descends from `ancestor`, by the parents of all processes.
bool descends(const std::map<pid_t, pid_t>& parents, pid_t process, pid_t ancestor) {
  for (auto found = parents.find(process); found != parents.end();
       found = parents.find(found->second)) {
    if (found->second == ancestor) return true;
  }
  return false;
}

}  // namespace

pid_t fork_child(const std::function<void()>& body) {
  std::fflush(nullptr);
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child < 0) throw std::runtime_error("can't fork");
  if (child > 0) return child;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(1);
  try {
    body();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "moetrace-peers: %s\n", error.what());
    ::_exit(1);
  }
  ::_exit(0);
}

pid_t start_program(const std::vector<std::string>& words, int core, const std::string& log) {
  return fork_child([&] {
    pin_to(core);
    const int file = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (file < 0) throw std::runtime_error(log + ": can't be opened");
    ::dup2(file, STDOUT_FILENO);
    ::dup2(file, STDERR_FILENO);
    std::vector<char*> arguments;
    for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    ::execvp(arguments[0], arguments.data());
    throw std::runtime_error(words[0] + " can't be started; is it installed?");
  });
}

void run_program(const std::vector<std::string>& words, int core, const std::string& log) {
  const pid_t child = start_program(words, core, log);
  int status = 0;
  if (!ends_within(child, 10, &status)) kill_child(child), status = -1;
  if (status != 0) throw std::runtime_error(words[0] + " " + words[1] + ": " + last_line(log));
}

bool ends_within(pid_t child, double seconds, int* status) {
  const std::int64_t deadline = now_ns() + static_cast<std::int64_t>(seconds * 1e9);
  do {
    if (::waitpid(child, status, WNOHANG) == child) return true;
    ::usleep(1000);
  } while (now_ns() < deadline);
  return false;
}

void kill_child(pid_t child) {
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
}

void stop_child(pid_t child) {
  ::kill(child, SIGTERM);
  if (!ends_within(child, 10)) kill_child(child);
}

pid_t descendant_named(pid_t ancestor, const std::string& name) {
  std::map<pid_t, pid_t> parents;
  std::map<pid_t, std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    std::ifstream file(entry.path() / "stat");
    std::string text;
    if (!std::getline(file, text)) continue;
    const std::size_t open = text.find('('), close = text.rfind(')');
    if (open == std::string::npos || close == std::string::npos) continue;
    const pid_t pid = std::stoi(text);
    names[pid] = text.substr(open + 1, close - open - 1);
    parents[pid] = std::stoi(text.substr(close + 4));  // ") S PARENT"
  }
  for (const auto& [pid, is] : names) {
    if (name.starts_with(is) && descends(parents, pid, ancestor)) return pid;  // 15 characters
  }
  return 0;
}

}  // namespace moetrace::peers
