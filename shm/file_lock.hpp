// Open-file-description locks on single bytes: identity, not a timeout. The kernel drops them when
// the last descriptor of the description goes, so a dead process holds none.
#pragma once

#include <string>

#include "common/unique_fd.hpp"
#include "shm/errors.hpp"

namespace moetrace {

class FileLock {
 public:
  FileLock() = default;

  // Takes the write lock on byte `byte` of `path` through a descriptor that is opened for this
  // alone. kInUse if it is taken.
  static Result<FileLock> acquire(const std::string& path, int byte);
  // The same on a descriptor that stays the caller's; the lock goes with it. kSystem if the file
  // system has no locks.
  static Result<void> take(int fd, int byte);
  // Whether the lock on that byte of the open file is held through another descriptor than `fd`, be
  // it ours or somebody else's. True also if the file can't be asked: better drained late than
  // unlinked early.
  static bool held_elsewhere(int fd, int byte);

  bool held() const { return fd_.valid(); }
  // The locked file, open for reading and writing; -1: none.
  int descriptor() const { return fd_.get(); }
  // The locked file still has a name.
  bool linked() const;
  void release() { fd_.reset(); }

 private:
  UniqueFd fd_;
};

}  // namespace moetrace
