// Finds a trace file's position from its own lines.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>

#include "daemon/collector/lines.hpp"
#include "daemon/collector/rows_form.hpp"
#include "shm/errors.hpp"

namespace moetrace {

// What a rows file holds.
struct RowsWritten {
  // Its length, the schema included.
  std::uint64_t bytes = 0;
  std::uint64_t batches = 0;
};

// Where a file ends, by its own last lines.
struct TracePosition {
  // The file has its `end` line, with this "status".
  bool ended = false;
  std::string end_status;
  // The file's number among the parts of its trace.
  std::uint64_t part = 1;
  // Of the trace: at the end of the file, and where the file starts.
  RunningTotals totals;
  RunningTotals base;
  // The last event that has its line.
  std::optional<std::uint64_t> last_event;
  // Of the last step line.
  std::optional<std::uint64_t> last_step;
  std::int64_t last_time_ns = 0;
  // The live requests that the head names, if the file has only its head. Its writer may have died
  // between two of them.
  std::optional<std::set<std::uint64_t>> head;
  // What the last `rows` line says. Zeros without one.
  RowsWritten rows;

  // The trace continues in another part.
  bool continued() const { return ended && end_status == kContinued; }
};

// The first lines of a file.
struct Opening {
  // The first line.
  std::string meta;
  std::string trace_id;
  std::uint64_t part = 1;
  // Nothing: the rows are lines.
  std::optional<RowsKey> rows;
  // `base` or `part`: where the file starts.
  std::optional<std::string> start_line;
};

struct ResumePoint {
  TracePosition position;
  // Up to the end of the last whole line whose rows are written.
  std::uint64_t whole_bytes = 0;
};

// `fd`: a readable file; `path`: its name in errors. kSystem if a read fails, or ends before the
// file's size: an unread file must not be changed.

// Nothing unless the file begins with a whole `meta` line of a trace and a second whole line.
Result<std::optional<Opening>> read_opening(int fd, const std::string& path);

// Whether the file is empty or holds only `meta`, whole or cut, as a collector leaves it that dies
// in its first write.
Result<bool> is_unbegun(int fd, const std::string& path, std::string_view meta);

// Whether the file begins with `text`; whether `text` begins with all of the file.
Result<bool> begins_with(int fd, const std::string& path, std::string_view text);
Result<bool> is_begin_of(int fd, const std::string& path, std::string_view text);

// kBadFile if the file has a line that no collector writes.
Result<ResumePoint> find_resume_point(int fd, const std::string& path, const Opening& opening);

}  // namespace moetrace
