// The claim of a session: one collector serves a session in a ring directory, and shows this by a
// locked file beside the segments. The lock ends with its process.
#pragma once

#include <string>
#include <vector>

#include "shm/file_lock.hpp"

namespace moetrace {

class SessionClaim {
 public:
  // kInUse if another collector serves the session there. If the file can't be created, the claim
  // is empty, and other processes can't see it.
  static Result<SessionClaim> take(const std::string& directory, const std::string& session);

  // Whether a collector that may read our rings has claimed the session there.
  static bool held(const std::string& directory, const std::string& session);

  // Removes the claims that killed collectors of this user have left. Returns their paths. With
  // `only_look`, removes nothing and returns the paths that it would remove.
  static std::vector<std::string> remove_dead(const std::string& directory,
                                              const std::string& session, bool only_look);

  // One line if the claim is empty because another user's file is in the way, else "".
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
