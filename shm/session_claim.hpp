// A session has one collector in a ring directory. It says so with a locked file beside the
// segments, which is nobody's once its process is dead.
#pragma once

#include <string>
#include <vector>

#include "shm/file_lock.hpp"

namespace moetrace {

class SessionClaim {
 public:
  // kInUse if another collector serves the session there. Where no file can be made the claim holds
  // nothing, and others can't see it.
  static Result<SessionClaim> take(const std::string& directory, const std::string& session);

  // Whether a collector that may read our rings has claimed the session there.
  static bool held(const std::string& directory, const std::string& session);

  // Removes the claims of ours that a killed collector has left. Their names; with `only_look`
  // those that would be removed.
  static std::vector<std::string> remove_dead(const std::string& directory,
                                              const std::string& session, bool only_look);

  // Why the claim holds nothing because of a file that is not ours, in one line, or "".
  const std::string& problem() const { return problem_; }

  SessionClaim(SessionClaim&&) noexcept = default;
  SessionClaim& operator=(SessionClaim&&) = delete;
  ~SessionClaim();

 private:
  SessionClaim() = default;

  std::string path_;
  std::string problem_;
  FileLock lock_;
};

}  // namespace moetrace
