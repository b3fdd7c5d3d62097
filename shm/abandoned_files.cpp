#include "shm/abandoned_files.hpp"

#include <unistd.h>

#include "shm/abi.h"
#include "shm/file_lock.hpp"
#include "shm/segment_names.hpp"

namespace moetrace {
namespace {

bool exists(const std::string& path) {
  return ::access(path.c_str(), F_OK) == 0;
}

struct Removal {
  bool only_look;
  // Removed, or with `only_look` to be removed.
  std::vector<std::string> files;

  void add(const std::string& path) {
    if (only_look ? exists(path) : ::unlink(path.c_str()) == 0) files.push_back(path);
  }
};

void remove_if_abandoned(const std::string& ctl_path, const std::string& hidden_ring,
                         const std::string& final_ring, Removal& removal) {
  const auto lock = FileLock::acquire(ctl_path, MOETRACE_LOCK_PRODUCER);
  // While we hold the lock, no producer builds this segment. A producer may have finished it and
  // ended since we listed the directory: then .ring has its final name and holds records to drain.
  if (!lock || exists(final_ring)) return;
  removal.add(hidden_ring);
  removal.add(ctl_path);
}

}  // namespace

std::vector<std::string> remove_abandoned(const std::string& directory, std::string_view session,
                                          bool only_look) {
  const auto names = file_names(directory);
  if (!names) return {};
  Removal removal{only_look, {}};
  const std::string root = directory + "/";
  const std::string hidden_root = root + std::string(kBuildingPrefix);
  for (const std::string& file : *names) {
    const bool building = file.starts_with(kBuildingPrefix);
    const std::string_view plain =
        building ? std::string_view(file).substr(kBuildingPrefix.size()) : file;
    if (const auto name = parse_segment_file(plain, ".ctl"); name && name->session == session) {
      remove_if_abandoned(root + file, hidden_root + name->ring_file(), root + name->ring_file(),
                          removal);
    } else if (const auto ring = parse_segment_file(plain, ".ring");
               building && ring && ring->session == session) {
      // A producer makes .ctl first, and a collector unlinks it last: without a .ctl, no process
      // uses this .ring.
      if (!exists(hidden_root + ring->ctl_file()) && !exists(root + ring->ctl_file()))
        removal.add(root + file);
    }
  }
  return removal.files;
}

}  // namespace moetrace
