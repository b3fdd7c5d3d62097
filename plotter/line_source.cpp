#include "plotter/line_source.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "plotter/trace_reader.hpp"

namespace moetrace::trace {
namespace {

// One read call costs about a microsecond; at this size that is nothing beside parsing, and it
// still fits a level 2 cache.
constexpr size_t kBlockBytes = size_t{512} << 10;

Error open_error(const std::string& path, int error_number) {
  return {ErrorCode::kOpen, path + ": " + std::strerror(error_number)};
}

}  // namespace

Result<LineSource> LineSource::open(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return open_error(path, errno);
  struct stat status {};
  if (::fstat(fd, &status) == 0 && S_ISDIR(status.st_mode)) {
    ::close(fd);
    return Error{ErrorCode::kOpen, path + ": is a folder, not a trace file"};
  }
  // Advice only: a kernel that does not take it reads as well, just later.
  (void)::posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
  return LineSource(fd, kBlockBytes);
}

LineSource::LineSource(int fd, size_t capacity)
    : fd_(fd), capacity_(capacity), buffer_(new char[capacity]()) {}

LineSource::LineSource(LineSource&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      capacity_(other.capacity_),
      buffer_(std::move(other.buffer_)),
      begin_(other.begin_),
      end_(other.end_) {}

LineSource::~LineSource() {
  if (fd_ >= 0) ::close(fd_);
}

long LineSource::refill() {
  const size_t kept = end_ - begin_;
  if (kept == capacity_) {
    std::unique_ptr<char[]> larger(new char[2 * capacity_]());
    std::memcpy(larger.get(), buffer_.get() + begin_, kept);
    buffer_ = std::move(larger);
    capacity_ *= 2;
  } else if (begin_ > 0) {
    std::memmove(buffer_.get(), buffer_.get() + begin_, kept);
  }
  begin_ = 0;
  end_ = kept;
  for (;;) {
    const ssize_t got = ::read(fd_, buffer_.get() + end_, capacity_ - end_);
    if (got < 0 && errno == EINTR) continue;
    if (got > 0) end_ += static_cast<size_t>(got);
    return got;
  }
}

LineSource::Next LineSource::next() {
  size_t searched = 0;  // bytes from begin_ that are known to hold no newline
  for (;;) {
    const char* start = buffer_.get() + begin_;
    const size_t available = end_ - begin_;
    const void* newline = std::memchr(start + searched, '\n', available - searched);
    if (newline != nullptr) {
      const size_t length = static_cast<size_t>(static_cast<const char*>(newline) - start);
      if (length > kMaxLineBytes) return {Status::kTooLong, {}};
      begin_ += length + 1;
      return {Status::kLine, {start, length}};
    }
    searched = available;
    if (available > kMaxLineBytes) return {Status::kTooLong, {}};
    const long got = refill();
    if (got < 0) return {Status::kReadFailed, {}, errno};
    if (got == 0 && available == 0) return {Status::kEnd, {}};
    if (got == 0) return {Status::kTorn, {buffer_.get() + begin_, available}};
  }
}

}  // namespace moetrace::trace
