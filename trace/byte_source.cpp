#include "trace/byte_source.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace moetrace::trace {
namespace {

// A read call costs about a microsecond; unpacking this many bytes takes some hundred.
constexpr size_t kPackedBytes = size_t{64} << 10;

}  // namespace

Result<ByteSource> ByteSource::open(const std::string& path) {
  const bool standard = path == "-";
  ByteSource source(standard ? ::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0)
                             : ::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  const std::string name = standard ? "standard input" : path;
  if (source.fd_ < 0) return Error{ErrorCode::kOpen, name + ": " + std::strerror(errno)};
  struct stat status {};
  if (::fstat(source.fd_, &status) == 0 && S_ISDIR(status.st_mode)) {
    return Error{ErrorCode::kOpen, name + ": is a folder, not a trace file",
                 "give the files in it"};
  }
  // Advice only: a kernel that ignores it still reads, only later.
  (void)::posix_fadvise(source.fd_, 0, 0, POSIX_FADV_SEQUENTIAL);
  // Where standard input is a file, another program may have read its beginning.
  if (const auto started = source.start(::lseek(source.fd_, 0, SEEK_CUR)); !started) {
    return Error{ErrorCode::kRead, name + ": " + started.error().message};
  }
  return source;
}

Result<ByteSource> ByteSource::of(int fd) {
  ByteSource source(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (source.fd_ < 0) return Error{ErrorCode::kRead, std::strerror(errno)};
  if (const auto started = source.start(::lseek(source.fd_, 0, SEEK_CUR) < 0 ? -1 : 0); !started) {
    return started.error();
  }
  return source;
}

ByteSource::ByteSource(ByteSource&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      offset_(other.offset_),
      identity_(std::move(other.identity_)),
      packing_(other.packing_),
      unpacker_(std::move(other.unpacker_)),
      packed_(std::move(other.packed_)),
      begin_(other.begin_),
      end_(other.end_),
      cut_(other.cut_),
      error_(std::move(other.error_)) {}

ByteSource::~ByteSource() {
  if (fd_ >= 0) ::close(fd_);
}

// Reads the first bytes, which say how the file is compressed; the text begins with them.
Result<void> ByteSource::start(off_t offset) {
  struct stat status {};
  if (::fstat(fd_, &status) == 0) identity_ = {status.st_dev, status.st_ino};
  offset_ = offset;
  packed_.reset(new char[kPackedBytes]);
  while (end_ < kPackingBytes) {
    const long got = read_file(packed_.get() + end_, kPackedBytes - end_);
    if (got < 0) return error_;
    if (got == 0) break;
    end_ += static_cast<size_t>(got);
  }
  packing_ = packing_of({packed_.get(), end_});
  if (packing_ == Packing::kNone) return {};
  unpacker_ = make_unpacker(packing_);
  if (unpacker_ == nullptr) return Error{ErrorCode::kRead, "out of memory"};
  return {};
}

long ByteSource::read(char* room, size_t size) {
  if (unpacker_ != nullptr) return unpack(room, size);
  if (begin_ == end_) return read_file(room, size);
  const size_t given = std::min(size, end_ - begin_);
  std::memcpy(room, packed_.get() + begin_, given);
  begin_ += given;
  return static_cast<long>(given);
}

bool ByteSource::skip(uint64_t bytes) {
  if (unpacker_ == nullptr && offset_ >= 0) {
    const uint64_t read_already = std::min<uint64_t>(bytes, end_ - begin_);
    begin_ += read_already;
    offset_ += static_cast<off_t>(bytes - read_already);
    return true;
  }
  const auto room = std::make_unique<char[]>(kPackedBytes);
  while (bytes > 0) {
    const long got = read(room.get(), std::min<uint64_t>(bytes, kPackedBytes));
    if (got < 0) return false;
    if (got == 0) break;
    bytes -= static_cast<uint64_t>(got);
  }
  return true;
}

long ByteSource::read_file(char* room, size_t size) {
  for (;;) {
    const ssize_t got = offset_ < 0 ? ::read(fd_, room, size) : ::pread(fd_, room, size, offset_);
    if (got >= 0) {
      if (offset_ >= 0) offset_ += got;
      return got;
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN) {
      error_.message = std::strerror(errno);
      return -1;
    }
    struct pollfd ready {
      fd_, POLLIN, 0
    };
    (void)::poll(&ready, 1, -1);  // standard input that another program has made non-blocking
  }
}

long ByteSource::unpack(char* room, size_t size) {
  for (;;) {
    const auto progress = unpacker_->unpack({packed_.get() + begin_, end_ - begin_}, room, size);
    begin_ += progress.taken;
    if (progress.wrong != nullptr) {
      const bool gzip = packing_ == Packing::kGzip;
      error_.message = std::string("the compressed data are damaged: ") + progress.wrong;
      error_.remedy = std::string("test the file with ") + (gzip ? "gzip" : "zstd") +
                      " -t FILE, and copy it again";
      return -1;
    }
    if (progress.given > 0) return static_cast<long>(progress.given);
    if (progress.taken > 0) continue;
    const long got = read_file(packed_.get(), kPackedBytes);  // all before was used
    if (got < 0) return -1;
    cut_ = got == 0 && !unpacker_->may_end();
    if (got == 0) return 0;
    begin_ = 0;
    end_ = static_cast<size_t>(got);
  }
}

}  // namespace moetrace::trace
