// Splits a file into lines with large reads into one buffer.
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>

#include "trace/byte_source.hpp"

namespace moetrace::trace {

class LineSource {
 public:
  explicit LineSource(ByteSource source);

  // kLast: the text after the last newline, unless it is empty. kTooLong: `line` is its beginning.
  // kReadFailed: see bytes().error().
  enum class Status { kLine, kLast, kEnd, kTooLong, kReadFailed };
  struct Next {
    Status status;
    std::string_view line;  // without its newline; valid until the next call
  };
  Next next();

  [[nodiscard]] const ByteSource& bytes() const { return bytes_; }

 private:
  // Moves the rest to the front, grows a full buffer, reads once. Returns the bytes read; 0: the
  // end; -1: see bytes().error().
  long refill();

  ByteSource bytes_;
  size_t capacity_;
  std::unique_ptr<char[]> buffer_;
  size_t begin_ = 0;  // start of the next line
  size_t end_ = 0;    // end of what was read
};

}  // namespace moetrace::trace
