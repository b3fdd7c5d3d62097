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
// Each try fails only if another collector ends during it.
constexpr int kMostTries = 100;

std::string file_prefix(const std::string& session) {
  return "moetrace.v1." + session + ".";
}

// The claims of a session, one file for each user.
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

// Whether any process holds a lock on a file that we may not open. /proc/locks lists all locks,
// each with the device and inode of its file.
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

// Whether a collector can open our rings. One whose claim we may not open can if it runs as root,
// or if our rings belong to a group, which its user may be in.
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

// False if the file is missing and can't be created.
bool make_file(const std::string& path, const RingAccess& access) {
  const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd.valid()) return errno == EEXIST;
  // Every collector that may open the same rings must see the lock.
  grant_access(fd, access, access.ctl_mode);
  return true;
}

// Why a file with our name is not ours, or "". In a directory that all users may write, such as
// /dev/shm, anyone may create one, or a link.
std::string not_ours(const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) return "";
  if (!S_ISREG(status.st_mode) || status.st_nlink != 1) return "it is a link or not a regular file";
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
                                 "; stop it, or set another --session"};
}

}  // namespace

Result<SessionClaim> SessionClaim::take(const std::string& directory, const std::string& session) {
  const std::string own = file_prefix(session) + std::to_string(::geteuid()) + std::string(kSuffix);
  const std::string own_path = directory + "/" + own;
  SessionClaim claim;
  const RingAccess access = ring_access(directory);
  for (int tries = 0; tries < kMostTries && make_file(own_path, access); ++tries) {
    if (const std::string why = not_ours(own_path); !why.empty()) {
      claim.problem_ =
          own_path + ": " + why + ", so engines can't see that this collector runs; remove it";
      break;
    }
    auto lock = FileLock::acquire(own_path, kLockedByte);
    if (!lock && lock.error().code == ErrorCode::kInUse)
      return served(own_path, directory, session);
    if (!lock && lock.error().code != ErrorCode::kNotFound) break;
    // Another collector may have unlinked the file after we opened it.
    if (!lock || !lock->linked()) continue;
    claim.path_ = own_path;
    claim.lock_ = std::move(*lock);
    write_pid(claim.lock_.descriptor());
    break;
  }
  // Users have files of their own, so in /dev/shm their collectors don't block each other. If we
  // may write another user's claim, both collectors could open the rings of both, so refuse. Each
  // collector locks its own file before it looks at others, so the second always sees the first.
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
      // While we hold the lock, no collector can take the file over.
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
