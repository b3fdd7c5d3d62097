// The trace file: found or made, cut back to whole lines, appended to. A line is in it whole or,
// until the next write, not at all.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "daemon/collector/lines.hpp"
#include "shm/file_lock.hpp"
#include "shm/result.hpp"

namespace moetrace {

// Where a file's own last lines say that it ends.
struct TracePosition {
  bool ended = false;  // it has its `end` line
  std::string status;  // which says this
  Totals totals;       // of the trace
  Totals base;         // what `totals` were where the file starts
  std::uint64_t next_seq = 0;
  std::optional<std::uint64_t> last_event;  // the last event that has its line
  std::optional<std::uint64_t> last_step;
};

class TraceFile {
 public:
  // Opens `path` for the trace, or makes it. kInUse if it holds another trace, or something else.
  static Result<TraceFile> open(const std::string& path, const std::string& trace_id);

  const std::string& path() const { return path_; }
  // Nothing in a new file.
  const std::optional<TracePosition>& position() const { return position_; }

  // Appends as much as the file system takes now. False: it took only a part, or nothing, and
  // error() says why; call again with the same text, and it goes on where it stopped.
  bool append(std::string_view text);
  const std::string& error() const { return error_; }
  void sync();

 private:
  UniqueFd fd_;
  std::string path_;
  std::optional<TracePosition> position_;
  std::size_t written_ = 0;  // of the text under way
  std::string error_;
};

}  // namespace moetrace
