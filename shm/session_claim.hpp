// A session has one collector in a ring directory. It says so with a locked file beside the
// segments, which is nobody's once its process is dead.
#pragma once

#include <string>

#include "shm/file_lock.hpp"

namespace moetrace {

class SessionClaim {
 public:
  // kInUse if another collector serves the session there. Where no file can be made the claim holds
  // nothing, and others can't see it.
  static Result<SessionClaim> take(const std::string& directory, const std::string& session);

  // Whether a collector has claimed the session there, or may have, in a file that we may not read.
  static bool held(const std::string& directory, const std::string& session);

  SessionClaim(SessionClaim&&) noexcept = default;
  SessionClaim& operator=(SessionClaim&&) = delete;
  ~SessionClaim();

 private:
  SessionClaim() = default;

  std::string path_;
  FileLock lock_;
};

}  // namespace moetrace
