#include "daemon/cli/dead_segments.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "common/text.hpp"
#include "daemon/cli/segments.hpp"

namespace moetrace::cli {
namespace {

bool is_ours(const std::string& path) {
  struct stat status {};
  return ::lstat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode) &&
         status.st_uid == ::geteuid();
}

// Whether a process holds the producer's or the collector's lock. Works for a segment that can't be
// mapped, too.
bool in_use(const std::string& ctl) {
  const UniqueFd fd(::open(ctl.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!fd.valid()) return errno != ENOENT;
  return FileLock::held_elsewhere(fd.get(), MOETRACE_LOCK_PRODUCER) ||
         FileLock::held_elsewhere(fd.get(), MOETRACE_LOCK_COLLECTOR);
}

std::string undelivered_text(const CollectorSegment& segment) {
  if (const std::uint64_t rows = waiting_rows(segment); rows > 0)
    return counted(rows, "row") + " not delivered";
  const SegmentMap& map = segment.map();
  // relaxed: its producer is dead, and no collector serves it.
  const auto word = [](std::uint64_t* at) {
    return SharedWord(at).load(std::memory_order_relaxed);
  };
  const bool events = word(&map.state()->host.events_claimed) > word(&map.ctl()->event_consumed);
  return events ? "requests and the end of its trace not delivered" : "";
}

}  // namespace

std::vector<DeadSegment> dead_segments(const std::string& directory, const std::string& session) {
  std::vector<DeadSegment> dead;
  const auto names = list_segments(directory, session);
  if (!names) return dead;
  for (const SegmentName& name : *names) {
    if (!is_ours(directory + "/" + name.ring_file()) || in_use(directory + "/" + name.ctl_file()))
      continue;
    const auto segment =
        CollectorSegment::open(directory, name, CollectorSegment::Access::kObserve);
    if (segment)
      dead.push_back({name, undelivered_text(*segment)});
    else if (segment.error().code != ErrorCode::kNotFound)
      dead.push_back({name, "can't be read, so its rows are unknown"});
  }
  return dead;
}

bool remove_dead_segment(const std::string& directory, const SegmentName& name) {
  const std::string ctl = directory + "/" + name.ctl_file();
  // While we hold its lock, no collector can attach.
  const auto lock = FileLock::acquire(ctl, MOETRACE_LOCK_COLLECTOR);
  if (lock && !lock->linked()) return false;
  if (!lock && lock.error().code != ErrorCode::kNotFound) return false;
  if (lock && FileLock::held_elsewhere(lock->descriptor(), MOETRACE_LOCK_PRODUCER)) return false;
  // .ring first, as in CollectorSegment::unlink.
  const bool removed = ::unlink((directory + "/" + name.ring_file()).c_str()) == 0;
  ::unlink(ctl.c_str());
  return removed;
}

std::string drain_command(const std::string& directory, const SegmentName& name) {
  return "moetraced --session " + name.session + " --directory " + directory + " --once";
}

}  // namespace moetrace::cli
