// Open-file-description locks on single bytes. They show which process is alive, without a timeout:
// the kernel drops a lock when the last descriptor of its description closes, so a dead process
// holds none.
#pragma once

#include <string>

#include "common/unique_fd.hpp"
#include "shm/errors.hpp"

namespace moetrace {

class FileLock {
 public:
  FileLock() = default;

  // Takes the write lock on byte `byte` of `path` through a descriptor of its own. kInUse if
  // another process holds it.
  static Result<FileLock> acquire(const std::string& path, int byte);
  // The same through the caller's descriptor; the lock lasts until that closes. kSystem if the file
  // system does not support locks.
  static Result<void> take(int fd, int byte);
  // Whether another descriptor than `fd`, of any process, holds the lock on that byte of the file.
  // Also true if the query fails: it is better to drain a segment late than to unlink it early.
  static bool held_elsewhere(int fd, int byte);

  bool held() const { return fd_.valid(); }
  // The locked file, open for reading and writing; -1 without a lock.
  int descriptor() const { return fd_.get(); }
  // Whether the locked file still has a name.
  bool linked() const;
  void release() { fd_.reset(); }

 private:
  UniqueFd fd_;
};

}  // namespace moetrace
