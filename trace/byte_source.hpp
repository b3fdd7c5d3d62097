// The bytes of a trace file: of a regular file, a pipe or standard input, unpacked if it is
// compressed.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <memory>
#include <string>
#include <utility>

#include "trace/errors.hpp"
#include "trace/file_kind.hpp"
#include "trace/unpacker.hpp"

namespace moetrace::trace {

class ByteSource {
 public:
  // "-" is standard input. Errors: kOpen, kRead.
  static Result<ByteSource> open(const std::string& path);
  // Reads a copy of the descriptor. A regular file is read from its start, even where another
  // reader shares the descriptor's position. Errors: kRead; its message is the "why" alone.
  static Result<ByteSource> of(int fd);

  ByteSource(ByteSource&& other) noexcept;
  ByteSource& operator=(ByteSource&&) = delete;
  ~ByteSource();

  // Returns the bytes read, at most `size` (>= 1); 0: the file ends here for now; -1: see error().
  long read(char* room, size_t size);
  // Leaves out the next `bytes` bytes, or those that are there. False: see error().
  bool skip(uint64_t bytes);
  // kRead; the message is the "why" alone.
  [[nodiscard]] const Error& error() const { return error_; }

  [[nodiscard]] Packing packing() const { return packing_; }
  // read() has come to the end of a compressed file before the compressed data did.
  [[nodiscard]] bool cut() const { return cut_; }
  // The same for all names of a file: device and inode.
  [[nodiscard]] std::pair<dev_t, ino_t> identity() const { return identity_; }

 private:
  explicit ByteSource(int fd) : fd_(fd) {}
  Result<void> start(off_t offset);
  long read_file(char* room, size_t size);
  long unpack(char* room, size_t size);

  int fd_;
  off_t offset_ = -1;  // where to read next; -1: the file can't seek
  std::pair<dev_t, ino_t> identity_{};
  Packing packing_ = Packing::kNone;
  std::unique_ptr<Unpacker> unpacker_;
  std::unique_ptr<char[]> packed_;  // bytes of the file that were read and not yet used
  size_t begin_ = 0;
  size_t end_ = 0;
  bool cut_ = false;
  Error error_{ErrorCode::kRead, {}};
};

}  // namespace moetrace::trace
