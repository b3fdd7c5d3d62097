#include "daemon/collector/session_claim.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <fstream>

namespace moetrace {
namespace {

constexpr int kLockedByte = 0;
constexpr int kMostTries = 100;  // each finds that another collector has just ended

// False if there is none and none can be made.
bool make_file(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0660));
  if (!fd.valid()) return errno == EEXIST;
  // The umask must not take the group's rights away: those who may serve the same rings must see
  // the lock.
  return ::fchmod(fd.get(), 0660) == 0;
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
  const std::string prefix = "moetrace.v1." + session + ".";
  const std::string suffix = ".collector";
  const std::string own = prefix + std::to_string(::geteuid()) + suffix;
  SessionClaim claim;
  for (int tries = 0; tries < kMostTries && make_file(directory + "/" + own); ++tries) {
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
  std::error_code failed;
  const std::filesystem::directory_iterator end;
  for (std::filesystem::directory_iterator entry(directory, failed); !failed && entry != end;
       entry.increment(failed)) {
    const std::string path = entry->path().string();
    const std::string name = entry->path().filename().string();
    if (name == own || !name.starts_with(prefix) || !name.ends_with(suffix)) continue;
    const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    if (fd.valid() && FileLock::held_elsewhere(fd.get(), kLockedByte))
      return served(path, directory, session);
  }
  return claim;
}

SessionClaim::~SessionClaim() {
  if (lock_.held() && lock_.linked()) ::unlink(path_.c_str());
}

}  // namespace moetrace
