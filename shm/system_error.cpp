#include "shm/system_error.hpp"

#include <cerrno>
#include <cstring>

namespace moetrace {
namespace {

struct Advice {
  ErrorCode code;
  const char* text;
};

Advice advice(int error_number, RingFile file) {
  const bool own = file == RingFile::kOwn;
  switch (error_number) {
    case ENOSPC:
      return {ErrorCode::kNoSpace, "set MOETRACE_RING_MB lower or make the tmpfs larger"};
    case EDQUOT:
      return {ErrorCode::kNoSpace, "set MOETRACE_RING_MB lower or raise the quota"};
    case EFBIG:
      return {ErrorCode::kNoSpace,
              "set MOETRACE_RING_MB lower or raise the file size limit (ulimit -f)"};
    case EACCES:
    case EPERM:
      if (own)
        return {ErrorCode::kPermission, "set MOETRACE_DIR to a directory that you may write"};
      return {ErrorCode::kPermission,
              "run as the file's owner, or set MOETRACE_GROUP for the engine"};
    case EROFS:
      return {ErrorCode::kPermission, "set MOETRACE_DIR to a writable file system"};
    case ENOENT:
      if (own) return {ErrorCode::kNoDirectory, "create the ring directory or set MOETRACE_DIR"};
      return {ErrorCode::kNotFound, "it may have been drained already"};
    case ENOTDIR:
      return {ErrorCode::kNoDirectory, "set MOETRACE_DIR to a directory"};
    case ELOOP:
      return {own ? ErrorCode::kSystem : ErrorCode::kBadSegment, "remove the link in its place"};
    case ENOMEM:
      if (own)
        return {ErrorCode::kSystem,
                "set MOETRACE_RING_MB lower or raise the memory limit (ulimit -v)"};
      return {ErrorCode::kSystem, "raise the memory limit (ulimit -v)"};
    case EAGAIN:
      return {ErrorCode::kSystem, "raise the limit of locked memory (ulimit -l)"};
    case EMFILE:
      return {ErrorCode::kSystem, "raise the limit of open files (ulimit -n)"};
    case ENFILE:
      return {ErrorCode::kSystem, "raise the system's limit of open files (sysctl fs.file-max)"};
    case EINVAL:
    case ENODEV:
    case ENOLCK:
    case EOPNOTSUPP:
      return {ErrorCode::kSystem, "set MOETRACE_DIR to a local tmpfs"};
    default:
      return {ErrorCode::kSystem, "look for this error in the system log, and try again"};
  }
}

}  // namespace

Error system_error(const std::string& what, const std::string& doing, int error_number,
                   RingFile file) {
  const Advice try_this = advice(error_number, file);
  return {try_this.code,
          what + ": " + doing + ": " + std::strerror(error_number) + "; " + try_this.text};
}

}  // namespace moetrace
