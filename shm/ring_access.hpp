// Which users may open a ring. By default only the producer's own user, because routing can reveal
// tokens.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "shm/file_lock.hpp"

namespace moetrace {

// Modes and group of a segment's two files. A collector's claim has the mode of .ctl.
struct RingAccess {
  mode_t ring_mode = 0600;
  mode_t ctl_mode = 0600;
  // The group to give the files to. Nothing: they keep the group that they are created with.
  std::optional<gid_t> group;
  // One line if MOETRACE_GROUP is set but can't be used, else empty.
  std::string warning;
};

// In a set-group-id directory, such as /run/moetrace of the system service, the files belong to the
// directory's group, and the group may read them. Elsewhere only if MOETRACE_GROUP names a group.
RingAccess ring_access(const std::string& directory);

// Gives a file that was created with mode 0600 its mode and group, whatever the umask. If this
// fails, returns false, and the file stays private.
bool grant_access(const UniqueFd& fd, const RingAccess& access, mode_t mode);

}  // namespace moetrace
