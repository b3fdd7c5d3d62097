// Splits a file into lines with large reads into one buffer.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "plotter/result.hpp"

namespace moetrace::trace {

class LineSource {
 public:
  static Result<LineSource> open(const std::string& path);

  LineSource(LineSource&& other) noexcept;
  LineSource& operator=(LineSource&&) = delete;
  ~LineSource();

  enum class Status { kLine, kEnd, kTorn, kTooLong, kReadFailed };
  struct Next {
    Status status;
    std::string_view line;  // without its newline; valid until the next call
    int error_number = 0;   // for kReadFailed
  };
  Next next();

 private:
  LineSource(int fd, size_t capacity);
  // Moves what is left to the front, grows the buffer if it is full, reads once. The bytes got, 0
  // at the end, -1.
  long refill();

  int fd_;
  size_t capacity_;
  std::unique_ptr<char[]> buffer_;
  size_t begin_ = 0;  // start of the next line
  size_t end_ = 0;    // end of what was read
};

}  // namespace moetrace::trace
