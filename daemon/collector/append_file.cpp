#include "daemon/collector/append_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <vector>

#include "shm/file_lock.hpp"

namespace moetrace {
namespace {

constexpr int kLockedByte = 0;
constexpr auto kFirstSyncInterval = std::chrono::milliseconds(100);
constexpr auto kLastSyncInterval = std::chrono::seconds(10);

Error cannot(const std::string& path, const std::string& doing, int error_number) {
  const bool forbidden = error_number == EACCES || error_number == EPERM || error_number == EROFS;
  const char* what_to_try = "; give an output that can be written";
  if (error_number == EMFILE || error_number == ENFILE)
    what_to_try = "; raise the limit of open files (ulimit -n); a trace takes up to six";
  if (error_number == EIO) what_to_try = "; check the disk; the collector tries again";
  return {forbidden ? ErrorCode::kPermission : ErrorCode::kSystem,
          path + ": can't " + doing + ": " + std::strerror(error_number) + what_to_try};
}

Error in_use(const std::string& path) {
  return {ErrorCode::kInUse, path + ": does not belong to this trace; give another output"};
}

// Whether another user may have put this file here, to read or change a trace: in a folder where
// all may write, such as /tmp, any user can take a name that can be guessed.
bool planted(const std::string& path, const struct stat& file) {
  if (file.st_uid == ::geteuid()) return false;
  struct stat folder {};
  const auto parent = std::filesystem::path(path).parent_path();
  if (::stat(parent.empty() ? "." : parent.c_str(), &folder) != 0) return true;
  return (folder.st_mode & S_IWOTH) != 0;
}

}  // namespace

AppendFile::Lock AppendFile::lock() {
  const auto taken = FileLock::take(fd_.get(), kLockedByte);
  if (taken) return Lock::kOurs;
  return taken.error().code == ErrorCode::kInUse ? Lock::kTaken : Lock::kNone;
}

Result<AppendFile> AppendFile::take_new(const Name& name,
                                        const std::function<Result<bool>(int fd)>& may_go) {
  std::error_code ignored;
  const auto parent = std::filesystem::path(name.path).parent_path();
  if (!parent.empty()) std::filesystem::create_directories(parent, ignored);

  const int flags = O_RDWR | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  const int follow = name.may_be_link ? 0 : O_NOFOLLOW;
  AppendFile file;
  file.path_ = name.path;
  // A trace is as private as the text: routing can reveal tokens.
  file.fd_ = UniqueFd(::open(name.path.c_str(), flags | O_CREAT | O_EXCL, 0640));
  const bool made = file.made_ = file.fd_.valid();
  if (!made && errno != EEXIST) return cannot(name.path, "make it", errno);
  if (!made) {
    file.fd_ = UniqueFd(::open(name.path.c_str(), flags | follow));
    // The user's own link, to a file that does not exist yet.
    if (!file.fd_.valid() && errno == ENOENT && name.may_be_link)
      file.fd_ = UniqueFd(::open(name.path.c_str(), flags | O_CREAT, 0640));
    const bool out_of_descriptors = errno == EMFILE || errno == ENFILE;
    if (!file.fd_.valid() && (errno == EIO || out_of_descriptors))
      return cannot(name.path, "open it", errno);
    // A link, a folder, a socket or another user's file has the name.
    if (!file.fd_.valid()) return in_use(name.path);
  }
  struct stat status {};
  if (::fstat(file.fd_.get(), &status) != 0) return cannot(name.path, "look at it", errno);
  if (!S_ISREG(status.st_mode) || (!made && planted(name.path, status))) return in_use(name.path);
  const Lock locked = file.lock();
  // Without locks, exclusive creation is the only protection.
  if (locked == Lock::kTaken || (locked == Lock::kNone && !made)) return in_use(name.path);
  // Between the open and the lock another trace may have filled it, or removed it.
  if (!file.has_its_name()) return in_use(name.path);
  const auto goes = may_go(file.fd_.get());
  if (!goes) return goes.error();
  if (!*goes) return in_use(name.path);
  if (::ftruncate(file.fd_.get(), 0) != 0) return cannot(name.path, "empty it", errno);
  return file;
}

void AppendFile::discard() {
  if (made_ && has_its_name()) ::unlink(path_.c_str());
}

Result<UniqueFd> AppendFile::look(const Name& name) {
  const int follow = name.may_be_link ? 0 : O_NOFOLLOW;
  UniqueFd fd(::open(name.path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | follow));
  if (!fd.valid()) {
    const int failed = errno;
    // A file of ours would be readable.
    if (failed == ENOENT || failed == ELOOP || failed == ENXIO || failed == EACCES)
      return UniqueFd();
    return cannot(name.path, "open it", failed);
  }
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) return cannot(name.path, "look at it", errno);
  if (!S_ISREG(status.st_mode) || planted(name.path, status)) return UniqueFd();
  return fd;
}

Result<AppendFile> AppendFile::open(const Name& name) {
  const int follow = name.may_be_link ? 0 : O_NOFOLLOW;
  AppendFile file;
  file.path_ = name.path;
  file.fd_ = UniqueFd(
      ::open(name.path.c_str(), O_RDWR | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | follow));
  if (!file.fd_.valid()) return cannot(name.path, "open it", errno);
  struct stat status {};
  if (::fstat(file.fd_.get(), &status) != 0) return cannot(name.path, "look at it", errno);
  if (!S_ISREG(status.st_mode) || planted(name.path, status)) return in_use(name.path);
  if (file.lock() == Lock::kTaken) {
    return Error{ErrorCode::kInUse,
                 name.path +
                     ": another collector writes this file; stop that collector, or give "
                     "another output"};
  }
  file.size_ = static_cast<std::uint64_t>(status.st_size);
  return file;
}

std::optional<Error> AppendFile::cut_to(std::uint64_t bytes) {
  if (::ftruncate(fd_.get(), static_cast<off_t>(bytes)) != 0)
    return cannot(path_, "cut an unfinished write off", errno);
  size_ = bytes;
  return std::nullopt;
}

bool AppendFile::fails(const std::string& what, int error_number, const char* what_to_try) {
  error_ = path_ + ": can't " + what + ": " + std::strerror(error_number) + what_to_try;
  return false;
}

bool AppendFile::append(std::string_view text) {
  while (written_ < text.size()) {
    const ssize_t wrote = ::write(fd_.get(), text.data() + written_, text.size() - written_);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) {
      const int failed = wrote < 0 ? errno : ENOSPC;
      return fails("write", failed,
                   failed == EFBIG
                       ? "; raise the file size limit (ulimit -f); the rings hold the rows "
                         "meanwhile"
                       : "; make room; the rings hold the rows meanwhile");
    }
    written_ += static_cast<std::size_t>(wrote);
    size_ += static_cast<std::uint64_t>(wrote);
  }
  written_ = 0;
  return true;
}

// After a failed fdatasync the kernel marks the pages clean, and the next fdatasync would succeed
// without writing them. So write_again() makes them dirty first.
bool AppendFile::sync() {
  if (sync_failed_) {
    if (!sync_is_due()) return false;
    sync_interval_ = std::clamp<std::chrono::milliseconds>(2 * sync_interval_, kFirstSyncInterval,
                                                           kLastSyncInterval);
    next_sync_ = Clock::now() + sync_interval_;
    if (!write_again()) return false;
  }
  int failed = 0;
  do {
    failed = ::fdatasync(fd_.get()) == 0 ? 0 : errno;
  } while (failed == EINTR);
  // A file system without sync counts as synced.
  if (failed == 0 || failed == EINVAL || failed == ENOSYS || failed == EOPNOTSUPP) {
    synced_ = size_;
    sync_failed_ = false;
    return true;
  }
  sync_failed_ = true;
  return fails("sync it", failed, "; check the disk; the ring stays until the sync succeeds");
}

bool AppendFile::write_again() {
  // A second descriptor: with O_APPEND, pwrite() appends.
  const UniqueFd fd(::open(("/proc/self/fd/" + std::to_string(fd_.get())).c_str(),
                           O_RDWR | O_CLOEXEC | O_NONBLOCK));
  constexpr const char* kWhatToTry = "; check the disk; the ring stays until the sync succeeds";
  if (!fd.valid()) return fails("open it again", errno, kWhatToTry);
  std::vector<char> block(1 << 20);
  for (std::uint64_t at = synced_; at < size_;) {
    const auto bytes = static_cast<std::size_t>(std::min<std::uint64_t>(block.size(), size_ - at));
    const ssize_t got = ::pread(fd.get(), block.data(), bytes, static_cast<off_t>(at));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return fails("read it back", got < 0 ? errno : EIO, kWhatToTry);
    for (ssize_t done = 0; done < got;) {
      const ssize_t wrote =
          ::pwrite(fd.get(), block.data() + done, static_cast<std::size_t>(got - done),
                   static_cast<off_t>(at + static_cast<std::uint64_t>(done)));
      if (wrote < 0 && errno == EINTR) continue;
      if (wrote <= 0) return fails("write it again", wrote < 0 ? errno : ENOSPC, kWhatToTry);
      done += wrote;
    }
    at += static_cast<std::uint64_t>(got);
  }
  return true;
}

AppendFile::State AppendFile::state() const {
  struct stat status {};
  // If fstat fails, assume no change.
  if (::fstat(fd_.get(), &status) != 0) return State::kWhole;
  if (status.st_nlink == 0) return State::kRemoved;
  return static_cast<std::uint64_t>(status.st_size) == size_ ? State::kWhole : State::kChanged;
}

bool AppendFile::has_its_name() const {
  struct stat here {};
  struct stat there {};
  return ::fstat(fd_.get(), &here) == 0 && ::stat(path_.c_str(), &there) == 0 &&
         here.st_dev == there.st_dev && here.st_ino == there.st_ino;
}

std::chrono::seconds AppendFile::age() const {
  struct statx status {};
  if (::statx(fd_.get(), "", AT_EMPTY_PATH, STATX_BTIME, &status) != 0 ||
      (status.stx_mask & STATX_BTIME) == 0)
    return {};
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto made = std::chrono::seconds(status.stx_btime.tv_sec);
  return std::max(std::chrono::duration_cast<std::chrono::seconds>(now - made),
                  std::chrono::seconds(0));
}

bool AppendFile::is_emptied() const {
  struct stat status {};
  return ::fstat(fd_.get(), &status) == 0 && status.st_size == 0 && has_its_name();
}

}  // namespace moetrace
