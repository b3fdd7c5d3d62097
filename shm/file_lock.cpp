#include "shm/file_lock.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "shm/system_error.hpp"

namespace moetrace {
namespace {

struct flock byte_range(int byte) {
  struct flock range {};
  range.l_type = F_WRLCK;
  range.l_whence = SEEK_SET;
  range.l_start = byte;
  range.l_len = 1;
  return range;
}

}  // namespace

Result<FileLock> FileLock::acquire(const std::string& path, int byte) {
  FileLock lock;
  lock.fd_ = UniqueFd(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  if (!lock.fd_.valid())
    return system_error(path, "can't open it to lock it", errno, RingFile::kOther);
  const auto taken = take(lock.fd_.get(), byte);
  if (taken) return lock;
  return Error{taken.error().code, path + ": " + taken.error().message};
}

Result<void> FileLock::take(int fd, int byte) {
  struct flock range = byte_range(byte);
  if (::fcntl(fd, F_OFD_SETLK, &range) == 0) return {};
  if (errno == EAGAIN || errno == EACCES) {
    return Error{ErrorCode::kInUse,
                 "another process holds its lock; stop that process, or wait until it ends"};
  }
  return Error{ErrorCode::kSystem, std::string("can't lock it: ") + std::strerror(errno) +
                                       "; set MOETRACE_DIR to a local file system"};
}

bool FileLock::held_elsewhere(int fd, int byte) {
  struct flock range = byte_range(byte);
  if (::fcntl(fd, F_OFD_GETLK, &range) != 0) return true;
  return range.l_type != F_UNLCK;
}

bool FileLock::linked() const {
  struct stat status {};
  return ::fstat(fd_.get(), &status) == 0 && status.st_nlink > 0;
}

}  // namespace moetrace
