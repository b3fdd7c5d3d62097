#include "shm/ring_access.hpp"

#include <grp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <string_view>
#include <vector>

namespace moetrace {
namespace {

constexpr mode_t kGroupRing = 0640;
constexpr mode_t kGroupCtl = 0660;

std::optional<gid_t> group_id(const std::string& name) {
  gid_t number = 0;
  const char* end = name.data() + name.size();
  if (const auto [at, failed] = std::from_chars(name.data(), end, number);
      failed == std::errc{} && at == end) {
    return number;
  }
  std::vector<char> text(1024);
  group entry{};
  group* found = nullptr;
  int failed = 0;
  while ((failed = ::getgrnam_r(name.c_str(), &entry, text.data(), text.size(), &found)) == ERANGE)
    text.resize(2 * text.size());
  if (failed != 0 || found == nullptr) return std::nullopt;
  return entry.gr_gid;
}

// Whether this process may give its files to a group.
bool may_give_to(gid_t group) {
  if (::geteuid() == 0 || ::getegid() == group) return true;
  std::vector<gid_t> groups(static_cast<std::size_t>(std::max(::getgroups(0, nullptr), 0)));
  if (::getgroups(static_cast<int>(groups.size()), groups.data()) < 0) return false;
  return std::find(groups.begin(), groups.end(), group) != groups.end();
}

}  // namespace

RingAccess ring_access(const std::string& directory) {
  RingAccess access;
  struct stat status {};
  if (::stat(directory.c_str(), &status) == 0 && (status.st_mode & S_ISGID) != 0) {
    access.ring_mode = kGroupRing;
    access.ctl_mode = kGroupCtl;
    return access;
  }
  const char* name = std::getenv("MOETRACE_GROUP");
  if (name == nullptr || *name == '\0') return access;
  const auto group = group_id(name);
  if (!group || !may_give_to(*group)) {
    access.warning = std::string("MOETRACE_GROUP: ") +
                     (group ? "this user is not in group '" : "unknown group '") + name +
                     "', so the ring stays private; name a group that the collector's user shares";
    return access;
  }
  access.ring_mode = kGroupRing;
  access.ctl_mode = kGroupCtl;
  access.group = group;
  return access;
}

bool grant_access(const UniqueFd& fd, const RingAccess& access, mode_t mode) {
  // The group first: with the mode first, the old group could read the file in between.
  if (access.group && ::fchown(fd.get(), static_cast<uid_t>(-1), *access.group) != 0) return false;
  return ::fchmod(fd.get(), mode) == 0;
}

}  // namespace moetrace
