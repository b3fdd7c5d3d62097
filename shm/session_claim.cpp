#include "shm/session_claim.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <vector>

#include "shm/ring_access.hpp"

namespace moetrace {
namespace {

constexpr int kLockedByte = 0;
constexpr std::string_view kSuffix = ".collector";
constexpr int kMostTries = 100;  // each finds that another collector has just ended

std::string file_prefix(const std::string& session) {
  return "moetrace.v1." + session + ".";
}

// The claims of a session: each user has a file.
std::vector<std::string> claim_files(const std::string& directory, const std::string& session) {
  const std::string prefix = file_prefix(session);
  std::vector<std::string> names;
  std::error_code failed;
  const std::filesystem::directory_iterator end;
  for (std::filesystem::directory_iterator entry(directory, failed); !failed && entry != end;
       entry.increment(failed)) {
    std::string name = entry->path().filename().string();
    if (name.starts_with(prefix) && name.ends_with(kSuffix)) names.push_back(std::move(name));
  }
  return names;
}

bool is_regular(int fd, struct stat& status) {
  return ::fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
}

// Whether any process holds a lock on a file that we may not open. The kernel lists all of them,
// each with the file's device and inode.
bool listed_as_locked(const struct stat& file) {
  char wanted[64];
  std::snprintf(wanted, sizeof wanted, " %02x:%02x:%llu ", major(file.st_dev), minor(file.st_dev),
                static_cast<unsigned long long>(file.st_ino));
  std::ifstream locks("/proc/locks");
  if (!locks) return true;
  for (std::string line; std::getline(locks, line);) {
    if (line.find(wanted) != std::string::npos) return true;
  }
  return false;
}

UniqueFd open_claim(const std::string& path, int access) {
  return UniqueFd(::open(path.c_str(), access | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
}

// A collector whose file we may not open can open our rings if it is root's, or if they are for a
// group, which it may be in.
bool serves_us(const std::string& directory, const std::string& name) {
  const std::string path = directory + "/" + name;
  struct stat status {};
  if (const UniqueFd fd = open_claim(path, O_RDONLY); fd.valid())
    return is_regular(fd.get(), status) && FileLock::held_elsewhere(fd.get(), kLockedByte);
  if (errno != EACCES || ::lstat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode))
    return false;
  const bool may_open = status.st_uid == 0 || (ring_access(directory).ctl_mode & S_IRWXG) != 0;
  return may_open && listed_as_locked(status);
}

// False if there is none and none can be made.
bool make_file(const std::string& path, const RingAccess& access) {
  const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd.valid()) return errno == EEXIST;
  // Those who may serve the same rings must see the lock.
  grant_access(fd, access, access.ctl_mode);
  return true;
}

// Why a file with our name is not ours, or "". Anyone may make one in a directory for all: a link,
// or a file of his own.
std::string not_ours(const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) return "";
  if (!S_ISREG(status.st_mode) || status.st_nlink != 1) return "it is not a file of its own";
  return status.st_uid == ::geteuid() ? "" : "it belongs to uid " + std::to_string(status.st_uid);
}

void write_pid(int fd) {
  const std::string text = std::to_string(::getpid()) + "\n";
  [[maybe_unused]] const bool wrote =
      ::ftruncate(fd, 0) == 0 && ::pwrite(fd, text.data(), text.size(), 0) > 0;
}

std::string pid_text(const std::string& path) {
  char text[16] = {};
  struct stat status {};
  const UniqueFd fd = open_claim(path, O_RDONLY);
  if (!fd.valid() || !is_regular(fd.get(), status) || ::pread(fd.get(), text, 15, 0) <= 0)
    return "";
  const long pid = std::strtol(text, nullptr, 10);
  return pid > 0 ? " (pid " + std::to_string(pid) + ")" : "";
}

Error served(const std::string& path, const std::string& directory, const std::string& session) {
  return {ErrorCode::kInUse, "a collector" + pid_text(path) + " already serves session '" +
                                 session + "' in " + directory +
                                 "; stop it, or give this one another --session"};
}

}  // namespace

Result<SessionClaim> SessionClaim::take(const std::string& directory, const std::string& session) {
  const std::string own = file_prefix(session) + std::to_string(::geteuid()) + std::string(kSuffix);
  const std::string own_path = directory + "/" + own;
  SessionClaim claim;
  const RingAccess access = ring_access(directory);
  for (int tries = 0; tries < kMostTries && make_file(own_path, access); ++tries) {
    if (const std::string why = not_ours(own_path); !why.empty()) {
      claim.problem_ = own_path + ": " + why +
                       ", so engines don't see that this collector runs; have it removed";
      break;
    }
    auto lock = FileLock::acquire(own_path, kLockedByte);
    if (!lock && lock.error().code == ErrorCode::kInUse)
      return served(own_path, directory, session);
    if (!lock && lock.error().code != ErrorCode::kNotFound) break;
    // Whoever held it may have unlinked it since it was opened.
    if (!lock || !lock->linked()) continue;
    claim.path_ = own_path;
    claim.lock_ = std::move(*lock);
    write_pid(claim.lock_.descriptor());
    break;
  }
  // Each user has a file: in a directory for all, such as /dev/shm, strangers are in nobody's way.
  // Whoever's file we may write, our rings and theirs would be drained by both. A file is locked
  // before its collector looks at others, so that the second sees the first.
  for (const std::string& name : claim_files(directory, session)) {
    const std::string path = directory + "/" + name;
    const UniqueFd fd = name == own ? UniqueFd() : open_claim(path, O_RDWR);
    if (fd.valid() && FileLock::held_elsewhere(fd.get(), kLockedByte))
      return served(path, directory, session);
  }
  return claim;
}

bool SessionClaim::held(const std::string& directory, const std::string& session) {
  const std::vector<std::string> names = claim_files(directory, session);
  return std::any_of(names.begin(), names.end(),
                     [&](const std::string& name) { return serves_us(directory, name); });
}

std::vector<std::string> SessionClaim::remove_dead(const std::string& directory,
                                                   const std::string& session, bool only_look) {
  std::vector<std::string> dead;
  for (const std::string& name : claim_files(directory, session)) {
    const std::string path = directory + "/" + name;
    struct stat status {};
    const UniqueFd fd = open_claim(path, O_RDONLY);
    if (!fd.valid() || !is_regular(fd.get(), status) || status.st_uid != ::geteuid() ||
        FileLock::held_elsewhere(fd.get(), kLockedByte))
      continue;
    if (!only_look) {
      // With the lock in our hand no collector has taken the file over.
      const auto lock = FileLock::acquire(path, kLockedByte);
      if (!lock || !lock->linked() || ::unlink(path.c_str()) != 0) continue;
    }
    dead.push_back(path);
  }
  return dead;
}

SessionClaim::~SessionClaim() {
  if (lock_.held() && lock_.linked()) ::unlink(path_.c_str());
}

}  // namespace moetrace
