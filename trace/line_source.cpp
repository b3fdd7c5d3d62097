#include "trace/line_source.hpp"

#include <cstring>
#include <utility>

#include "trace/trace_reader.hpp"

namespace moetrace::trace {
namespace {

// A read call costs about a microsecond, which parsing this many bytes dwarfs; and the block still
// fits a level 2 cache.
constexpr size_t kBlockBytes = size_t{512} << 10;

}  // namespace

LineSource::LineSource(ByteSource source)
    : bytes_(std::move(source)), capacity_(kBlockBytes), buffer_(new char[kBlockBytes]()) {}

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
  const long got = bytes_.read(buffer_.get() + end_, capacity_ - end_);
  if (got > 0) end_ += static_cast<size_t>(got);
  return got;
}

LineSource::Next LineSource::next() {
  size_t searched = 0;  // bytes from begin_ that are known to hold no newline
  for (;;) {
    const char* start = buffer_.get() + begin_;
    const size_t available = end_ - begin_;
    const void* newline = std::memchr(start + searched, '\n', available - searched);
    const size_t length = newline == nullptr
                              ? available
                              : static_cast<size_t>(static_cast<const char*>(newline) - start);
    if (length > kMaxLineBytes) return {Status::kTooLong, {start, length}};
    if (newline != nullptr) {
      begin_ += length + 1;
      return {Status::kLine, {start, length}};
    }
    searched = available;
    const long got = refill();
    if (got < 0) return {Status::kReadFailed, {}};
    if (got > 0) continue;
    begin_ = end_;
    if (available == 0) return {Status::kEnd, {}};
    return {Status::kLast, {buffer_.get(), available}};
  }
}

}  // namespace moetrace::trace
