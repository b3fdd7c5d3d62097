// Compressed bytes in, the bytes that were compressed out: gzip and zstd, a piece at a time.
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>

#include "trace/file_kind.hpp"

namespace moetrace::trace {

class Unpacker {
 public:
  virtual ~Unpacker() = default;

  struct Progress {
    size_t taken = 0;             // bytes of `packed`
    size_t given = 0;             // bytes in `room`
    const char* wrong = nullptr;  // what is wrong with the data; stays valid
  };
  // Takes and gives what it can. A file of several members or frames is one text.
  virtual Progress unpack(std::string_view packed, char* room, size_t size) = 0;

  // The data may end here: all members or frames that have begun are whole.
  [[nodiscard]] virtual bool may_end() const = 0;
};

// Memory: 40 KiB for gzip; for zstd the file's window, at most 128 MiB. Null: out of memory.
std::unique_ptr<Unpacker> make_unpacker(Packing packing);

}  // namespace moetrace::trace
