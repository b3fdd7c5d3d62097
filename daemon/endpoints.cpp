#include "daemon/endpoints.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string_view>

#include "common/names.hpp"
#include "daemon/runtime_folder.hpp"
#include "shm/file_lock.hpp"

namespace moetrace {
namespace {

constexpr int kLockedByte = 0;
constexpr std::string_view kListSuffix = ".endpoint";
constexpr std::string_view kSocketSuffix = ".pub";
constexpr std::size_t kMostListBytes = 64 << 10;

std::string list_file(const std::string& folder, const std::string& session) {
  return folder + "/" + session + std::string(kListSuffix);
}

// 0, or the errno of a connection to it. Does not wait for a listener with a full queue.
int connect_error(const std::string& socket_file) {
  sockaddr_un address{};
  if (socket_file.size() >= sizeof address.sun_path) return ENAMETOOLONG;
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, socket_file.c_str(), socket_file.size() + 1);
  const UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0)
    return 0;
  return errno == EAGAIN ? 0 : errno;
}

std::string read_text(int fd) {
  std::string text(kMostListBytes, '\0');
  const ssize_t got = ::pread(fd, text.data(), text.size(), 0);
  text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  return text;
}

// The lines of a list that a living collector of a trusted user holds.
std::vector<std::string> read_list(const std::string& folder, const std::string& session) {
  const UniqueFd fd(
      ::open(list_file(folder, session).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat status {};
  if (!fd.valid() || ::fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode) ||
      !trusted_file(folder, status) || !FileLock::held_elsewhere(fd.get(), kLockedByte))
    return {};
  std::vector<std::string> endpoints;
  const std::string text = read_text(fd.get());
  for (std::size_t begin = 0, end; (end = text.find('\n', begin)) != std::string::npos;
       begin = end + 1) {
    std::string endpoint = text.substr(begin, end - begin);
    if (publish_error({endpoint}).empty() && endpoint != "none")
      endpoints.push_back(std::move(endpoint));
  }
  return endpoints;
}

// The folder's entries that are regular files or sockets of ours.
bool is_ours(const std::string& path, mode_t type) {
  struct stat status {};
  return ::lstat(path.c_str(), &status) == 0 && (status.st_mode & S_IFMT) == type &&
         status.st_uid == ::geteuid();
}

bool dead_list(const std::string& path) {
  if (!is_ours(path, S_IFREG)) return false;
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  return fd.valid() && !FileLock::held_elsewhere(fd.get(), kLockedByte);
}

// Of two that try at once, one gets the lock. A new collector's list has another file.
void remove_dead_list(const std::string& path) {
  const auto lock = FileLock::acquire(path, kLockedByte);
  if (lock && lock->linked()) ::unlink(path.c_str());
}

}  // namespace

std::string default_socket(const std::string& folder, const std::string& session) {
  return folder + "/" + session + std::string(kSocketSuffix);
}

void EndpointList::write(const std::vector<std::string>& endpoints) {
  remove();
  std::string why;
  for (const std::string& folder : runtime_folders()) {
    if (endpoints.empty()) {
      if (distrust(folder).empty()) remove_dead_list(list_file(folder, session_));
      continue;
    }
    const std::string wrong = write_file(folder, endpoints);
    if (wrong.empty()) return;
    why += (why.empty() ? "" : "; ") + folder + ": " + wrong;
  }
  if (why.empty() || std::exchange(said_, true)) return;
  say_("endpoint list: " + why +
       "; moetrace status and tail don't find this collector, give tail --endpoint");
}

// Why it can't, or "". The file is locked before it has its name: who finds it there finds it
// locked.
std::string EndpointList::write_file(const std::string& folder,
                                     const std::vector<std::string>& endpoints) {
  if (std::string why = prepare_runtime_folder(folder); !why.empty()) return why;
  const std::string path = list_file(folder, session_);
  const std::string unnamed = path + "." + std::to_string(::getpid());
  ::unlink(unnamed.c_str());  // of a process that had our number, and was killed
  UniqueFd fd(::open(unnamed.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644));
  if (!fd.valid()) return std::strerror(errno);
  std::string text;
  for (const std::string& endpoint : endpoints) text += endpoint + '\n';
  const ssize_t wrote = ::write(fd.get(), text.data(), text.size());
  const int failed = wrote < 0 ? errno : ENOSPC;
  auto lock = FileLock::acquire(unnamed, kLockedByte);
  std::string why;
  if (wrote != static_cast<ssize_t>(text.size()))
    why = std::strerror(failed);
  else if (!lock)
    why = lock.error().message;
  else if (std::rename(unnamed.c_str(), path.c_str()) != 0)
    why = std::strerror(errno);
  if (!why.empty()) {
    ::unlink(unnamed.c_str());
    return why;
  }
  lock_ = std::move(*lock);
  path_ = path;
  return "";
}

void EndpointList::remove() {
  if (lock_.held() && lock_.linked()) ::unlink(path_.c_str());
  lock_.release();
}

EndpointList::~EndpointList() {
  remove();
}

std::vector<std::string> read_endpoints(const std::string& session) {
  for (const std::string& folder : runtime_folders()) {
    if (!distrust(folder).empty()) continue;
    if (auto endpoints = read_list(folder, session); !endpoints.empty()) return endpoints;
  }
  return {};
}

std::vector<std::string> remove_dead_endpoints(const std::string& session, bool only_look) {
  std::vector<std::string> dead;
  for (const std::string& folder : runtime_folders()) {
    if (!distrust(folder).empty()) continue;
    const std::string list = list_file(folder, session);
    const std::string socket = default_socket(folder, session);
    if (dead_list(list)) {
      dead.push_back(list);
      if (!only_look) remove_dead_list(list);
    }
    if (is_ours(socket, S_IFSOCK) && connect_error(socket) == ECONNREFUSED) {
      dead.push_back(socket);
      if (!only_look) ::unlink(socket.c_str());
    }
  }
  return dead;
}

std::vector<std::string> sessions_with_endpoints() {
  std::vector<std::string> sessions;
  for (const std::string& folder : runtime_folders()) {
    DIR* const handle = ::opendir(folder.c_str());
    if (handle == nullptr) continue;
    while (const dirent* entry = ::readdir(handle)) {
      std::string_view name = entry->d_name;
      const std::string_view suffix = name.ends_with(kSocketSuffix) ? kSocketSuffix : kListSuffix;
      if (!name.ends_with(suffix)) continue;
      name.remove_suffix(suffix.size());
      if (is_session_name(name)) sessions.emplace_back(name);
    }
    ::closedir(handle);
  }
  std::sort(sessions.begin(), sessions.end());
  sessions.erase(std::unique(sessions.begin(), sessions.end()), sessions.end());
  return sessions;
}

bool answers(const std::string& socket_file) {
  return connect_error(socket_file) == 0;
}

std::string socket_taken(const std::string& socket_file) {
  struct stat status {};
  if (::lstat(socket_file.c_str(), &status) != 0) return "";
  if (!S_ISSOCK(status.st_mode)) return "there is a file that is not a socket";
  const int failed = connect_error(socket_file);
  if (failed == 0) return std::strerror(EADDRINUSE);
  return failed == ECONNREFUSED ? "" : std::strerror(failed);
}

}  // namespace moetrace
