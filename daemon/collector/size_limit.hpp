// --max-total-size: what the trace files of a collector take together, and what must stay free so
// that the limit holds whatever the rings still have.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>

#include "daemon/collector/segment_drain.hpp"

namespace moetrace {

// The reason in a `control` line.
inline constexpr std::string_view kMaxTotalSize = "max-total-size";

// Files of parts that are over, as long as their names lead to them.
class WrittenFiles {
 public:
  // A file of lines, and the rows file beside it. Returns the bytes of both.
  std::uint64_t add(const std::string& lines_path);
  // They were removed.
  void forget(const std::string& lines_path);
  // Looks at each file again: one that was removed or renamed no longer counts.
  void look_again();
  std::uint64_t bytes() const { return bytes_; }

 private:
  struct Entry {
    dev_t device;
    ino_t inode;
    std::uint64_t bytes;
  };
  void erase(const std::string& path);

  // By path.
  std::map<std::string, Entry> files_;
  // Of all of them.
  std::uint64_t bytes_ = 0;
};

// How many more bytes a trace may write once recording is off: every slot of its ring, and the
// lines that end it.
std::uint64_t bytes_to_come(const SegmentDrain& drain);

}  // namespace moetrace
