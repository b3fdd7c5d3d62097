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

  // kLast: what stands after the last newline, if it is anything. kTooLong: `line` is its
  // beginning. kReadFailed: see bytes().error().
  enum class Status { kLine, kLast, kEnd, kTooLong, kReadFailed };
  struct Next {
    Status status;
    std::string_view line;  // without its newline; valid until the next call
  };
  Next next();

  [[nodiscard]] const ByteSource& bytes() const { return bytes_; }

 private:
  // Moves what is left to the front, grows the buffer if it is full, reads once. The bytes got, 0
  // at the end, -1.
  long refill();

  ByteSource bytes_;
  size_t capacity_;
  std::unique_ptr<char[]> buffer_;
  size_t begin_ = 0;  // start of the next line
  size_t end_ = 0;    // end of what was read
};

}  // namespace moetrace::trace
