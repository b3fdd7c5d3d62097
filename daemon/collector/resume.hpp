// Finds a trace file's position from its own lines.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>

#include "daemon/collector/lines.hpp"
#include "shm/errors.hpp"

namespace moetrace {

// Where a file's own last lines say that it ends.
struct TracePosition {
  bool ended = false;      // it has its `end` line
  std::string end_status;  // that line's "status"
  std::uint64_t part = 1;  // which part of its trace the file is
  Totals totals;           // of the trace
  Totals base;             // what `totals` were where the file starts
  std::uint64_t next_seq = 0;
  std::optional<std::uint64_t> last_event;  // the last event that has its line
  std::optional<std::uint64_t> last_step;   // of the last step line
  std::int64_t last_time_ns = 0;            // likewise
  // Where nothing but its first lines is there, the live requests that they name. Its writer may
  // have died between two of them.
  std::optional<std::set<std::uint64_t>> head;

  // The trace goes on in another part.
  bool continued() const { return ended && end_status == kContinued; }
};

// What the first lines of a file say.
struct Opening {
  std::string trace_id;
  std::uint64_t part = 1;
  std::optional<std::string> start_line;  // `base` or `part`: where the file starts
};

struct ResumePoint {
  TracePosition position;
  std::uint64_t whole_bytes = 0;  // up to the end of the last whole line
};

// `fd`: a readable file; `path`: its name in errors. A read that fails, or that gives less than the
// file's size promises, is kSystem: whoever can't read a file knows nothing about it.

// Nothing if the file does not begin with a whole `meta` line of a trace and a second whole line.
Result<std::optional<Opening>> read_opening(int fd, const std::string& path);

// Whether no whole line but `meta` is in the file, as a collector leaves it that dies in its first
// write. True for an empty file.
Result<bool> is_unbegun(int fd, const std::string& path, std::string_view meta);

// kBadFile if a line stands there that no collector writes.
Result<ResumePoint> find_resume_point(int fd, const std::string& path, const Opening& opening);

}  // namespace moetrace
