#include "shm/session_claim.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
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

enum class Claimed { kNo, kYes, kUnknown };  // unknown: it may not be opened like this

Claimed is_locked(const std::string& path, int access) {
  const UniqueFd fd(::open(path.c_str(), access | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!fd.valid()) return errno == EACCES ? Claimed::kUnknown : Claimed::kNo;
  return FileLock::held_elsewhere(fd.get(), kLockedByte) ? Claimed::kYes : Claimed::kNo;
}

// False if there is none and none can be made.
bool make_file(const std::string& path, const RingAccess& access) {
  const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd.valid()) return errno == EEXIST;
  // Those who may serve the same rings must see the lock.
  grant_access(fd, access, access.ctl_mode);
  return true;
}

Error served(const std::string& path, const std::string& directory, const std::string& session) {
  std::int64_t pid = 0;
  std::ifstream(path) >> pid;
  return {ErrorCode::kInUse, "a collector" +
                                 (pid > 0 ? " (pid " + std::to_string(pid) + ")" : std::string()) +
                                 " already serves session '" + session + "' in " + directory +
                                 "; stop it, or give this one another --session"};
}

}  // namespace

Result<SessionClaim> SessionClaim::take(const std::string& directory, const std::string& session) {
  const std::string own = file_prefix(session) + std::to_string(::geteuid()) + std::string(kSuffix);
  SessionClaim claim;
  const RingAccess access = ring_access(directory);
  for (int tries = 0; tries < kMostTries && make_file(directory + "/" + own, access); ++tries) {
    auto lock = FileLock::acquire(directory + "/" + own, kLockedByte);
    if (!lock && lock.error().code == ErrorCode::kInUse)
      return served(directory + "/" + own, directory, session);
    if (!lock && lock.error().code != ErrorCode::kNotFound) break;
    // Whoever held it may have unlinked it since it was opened.
    if (!lock || !lock->linked()) continue;
    claim.path_ = directory + "/" + own;
    claim.lock_ = std::move(*lock);
    std::ofstream(claim.path_, std::ios::trunc) << ::getpid() << '\n';
    break;
  }
  // Each user has a file: in a directory for all, such as /dev/shm, strangers are in nobody's way.
  // Whoever's file we may write, our rings and theirs would be drained by both. A file is locked
  // before its collector looks at others, so that the second sees the first.
  for (const std::string& name : claim_files(directory, session)) {
    const std::string path = directory + "/" + name;
    if (name != own && is_locked(path, O_RDWR) == Claimed::kYes)
      return served(path, directory, session);
  }
  return claim;
}

bool SessionClaim::held(const std::string& directory, const std::string& session) {
  const std::vector<std::string> names = claim_files(directory, session);
  return std::any_of(names.begin(), names.end(), [&](const std::string& name) {
    return is_locked(directory + "/" + name, O_RDONLY) != Claimed::kNo;
  });
}

SessionClaim::~SessionClaim() {
  if (lock_.held() && lock_.linked()) ::unlink(path_.c_str());
}

}  // namespace moetrace
