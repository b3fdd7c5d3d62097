#include "daemon/endpoints.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string_view>

namespace moetrace {
namespace {

constexpr int kLockedByte = 0;

std::string endpoints_file(const std::string& session) {
  return socket_directory() + "/" + session + ".endpoint";
}

// The variable's value, or "" if it is unset.
std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

}  // namespace

std::string socket_directory() {
  if (::access("/run/moetrace", W_OK | X_OK) == 0) return "/run/moetrace";
  std::string directory;
  if (const std::string runtime = environment("XDG_RUNTIME_DIR"); !runtime.empty()) {
    directory = runtime + "/moetrace";
  } else {
    const std::string temporary = environment("TMPDIR");
    directory =
        (temporary.empty() ? "/tmp" : temporary) + "/moetrace-" + std::to_string(::getuid());
  }
  ::mkdir(directory.c_str(), 0700);
  return directory;
}

std::string default_endpoint(const std::string& session) {
  return "ipc://" + socket_directory() + "/" + session + ".pub";
}

EndpointList::EndpointList(const std::string& session, std::vector<std::string> endpoints)
    : path_(endpoints_file(session)), endpoints_(std::move(endpoints)) {
  if (endpoints_.empty()) {
    const auto abandoned = FileLock::acquire(path_, kLockedByte);
    if (abandoned && abandoned->linked()) ::unlink(path_.c_str());
    return;
  }
  // Locked before it has its name: whoever finds it there finds it locked.
  const std::string unnamed = path_ + "." + std::to_string(::getpid());
  std::ofstream file(unnamed, std::ios::trunc);
  for (const std::string& endpoint : endpoints_) file << endpoint << '\n';
  file.close();
  auto lock = FileLock::acquire(unnamed, kLockedByte);
  if (file && lock && std::rename(unnamed.c_str(), path_.c_str()) == 0) {
    lock_ = std::move(*lock);
  } else {
    ::unlink(unnamed.c_str());
  }
}

EndpointList::~EndpointList() {
  if (lock_.held() && lock_.linked()) ::unlink(path_.c_str());
  for (const std::string& endpoint : endpoints_) {
    if (const auto file = socket_file(endpoint)) ::unlink(file->c_str());
  }
}

std::vector<std::string> read_endpoints(const std::string& session) {
  const std::string path = endpoints_file(session);
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid() || !FileLock::held_elsewhere(fd.get(), kLockedByte)) return {};
  std::ifstream file(path);
  std::vector<std::string> endpoints;
  for (std::string line; std::getline(file, line);) {
    if (!line.empty()) endpoints.push_back(line);
  }
  return endpoints;
}

std::optional<std::string> socket_file(const std::string& endpoint) {
  constexpr std::string_view kScheme = "ipc://";
  if (!endpoint.starts_with(kScheme)) return std::nullopt;
  const std::string file = endpoint.substr(kScheme.size());
  // '@' begins an abstract name, '*' asks for any.
  if (file.empty() || file[0] == '@' || file[0] == '*') return std::nullopt;
  return file;
}

bool answers(const std::string& socket_file) {
  sockaddr_un address{};
  if (socket_file.size() >= sizeof address.sun_path) return false;
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, socket_file.c_str(), socket_file.size() + 1);
  const UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  return ::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

}  // namespace moetrace
