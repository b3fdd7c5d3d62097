// The collector's side of a segment; the command line observes with it.
#pragma once

#include <string>

#include "common/unique_fd.hpp"
#include "shm/cut_guard.hpp"
#include "shm/errors.hpp"
#include "shm/file_lock.hpp"
#include "shm/segment_map.hpp"
#include "shm/segment_names.hpp"

namespace moetrace {

class CollectorSegment {
 public:
  // kObserve takes no lock; for status and control.
  enum class Access { kCollect, kObserve };

  // Checks the header as ABI.md demands. kInUse if another process collects.
  static Result<CollectorSegment> open(const std::string& directory, const SegmentName& name,
                                       Access access);

  const SegmentMap& map() const { return map_; }
  const SegmentName& name() const { return name_; }
  bool producer_alive() const;
  // Whether any process collects, this one included.
  bool collector_alive() const;
  // False once a file was cut after it was mapped. Words that were read since intact() last
  // returned true may be zeros (CutGuard).
  bool intact() const;
  // Locks the control words for as long as the lock lives. kInUse if another process writes them.
  Result<FileLock> lock_control() const;
  // Removes both names; the mappings stay. Empty, or one line that says why the names stay.
  std::string unlink() const;

 private:
  std::string directory_;
  SegmentMap map_;
  // Both guards are destroyed before the map, as CutGuard demands.
  CutGuard ring_guard_;
  CutGuard ctl_guard_;
  SegmentName name_;
  FileLock lock_;
  UniqueFd ring_fd_;
  // For queries about locks; never holds one.
  UniqueFd ctl_fd_;
};

}  // namespace moetrace
