// Who besides its producer may open a ring: by default no one else, since routing can give tokens
// away.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "shm/file_lock.hpp"

namespace moetrace {

// Modes and group of a segment's two files, and of the collector's claim beside them.
struct RingAccess {
  mode_t ring_mode = 0600;
  mode_t ctl_mode = 0600;
  std::optional<gid_t> group;  // to be given to it; nothing: the files keep what they are made with
  std::string warning;         // one line, where MOETRACE_GROUP can't be had; empty: none
};

// In a set-group-id directory the files belong to its group, which may then read them: a service
// such as the one on /run/moetrace. Elsewhere only where MOETRACE_GROUP names a group.
RingAccess ring_access(const std::string& directory);

// Gives a file that was made with mode 0600 its mode and group, whatever the umask. False: it stays
// as private as it was.
bool grant_access(const UniqueFd& fd, const RingAccess& access, mode_t mode);

}  // namespace moetrace
