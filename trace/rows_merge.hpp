// The rows of a rows file between the lines beside it: which stand before which line, whether the
// two files belong together, and whether the `rows` lines are true.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "trace/rows_file.hpp"
#include "trace/trace_lines.hpp"

namespace moetrace::trace {

// The rows file of the lines at `path`: the one with their name (`trace.arrows.1` of
// `trace.jsonl.1`), else the one that `rows` names; "": it is not there.
std::string find_rows_file(const std::string& path, const RowsMeta& rows);
// The lines of the rows file at `path`, where they should be; `there`: whether they are.
std::string find_lines(const std::string& path, bool& there);
// The last `rows` line in the text at `path`; nothing without one. A line that is wrong is left
// to the reader of the lines.
std::optional<RowsWritten> last_rows_line(const std::string& path);

class RowsMerge {
 public:
  // `name`: of the rows file, in messages. `written`: the last `rows` line; nothing: no rows count
  // yet. Errors of the other functions: kRead, kBadRows and kMismatch, "NAME: why".
  RowsMerge(std::string name, RowsFile file, std::optional<RowsWritten> written);
  // All rows of a file whose lines are missing.
  RowsMerge(std::string name, RowsFile file);

  // Compares the file with the meta line. Before any row is read.
  Result<void> check(const Meta& meta);
  // A `rows` line that was read; the file may have grown since it was opened. Checks as above, if
  // this is the first.
  Result<void> cover(const RowsWritten& line, const Meta& meta);
  // The file's own words, for a trace without lines.
  Result<Meta> meta_without_lines();
  // Reads on from byte `byte`, where a batch begins, or from the first batch (0), and takes no
  // `rows` lines: check() of them is not to be called. Before any row is read.
  Result<void> start_at(std::uint64_t byte);
  // The line that says where the part begins.
  void begin(const Base& base);
  void set_limits(const RowsLimits& limits) { limits_ = limits; }

  // Rows with a smaller number count.
  [[nodiscard]] std::uint64_t covered() const { return covered_; }
  // The next rows below `seq`, at least 1, of one batch; nothing: there are none.
  Result<std::optional<RowRun>> next(std::uint64_t seq);
  // The batch that the last rows were of.
  [[nodiscard]] const RowsBatch& batch() const { return *batch_; }
  // Where the next batch begins.
  [[nodiscard]] std::uint64_t offset() const { return file_.offset(); }
  // After all rows below its `seq`: whether the file is as the line says. kBadLine: the message is
  // the "why" alone.
  Result<void> check(const RowsWritten& line);
  // After the last row: whether the file has more, whole or cut.
  bool goes_on();
  // The same, as an error, for a trace that has ended.
  Result<void> check_end();

  // What is unfinished at the end of a file without lines, in bytes.
  [[nodiscard]] std::optional<std::uint64_t> unfinished() const { return unfinished_; }
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] std::uint64_t batches() const { return file_.batches(); }

 private:
  struct Boundary {
    std::uint64_t batches;
    std::uint64_t delivered;
    std::uint64_t next_seq;
  };

  Error wrong(const Error& error) const;
  Result<const RowsSchema*> schema();
  Result<void> read_batch();

  std::string name_;
  RowsFile file_;
  std::optional<RowsWritten> written_;
  bool without_lines_ = false;
  bool in_the_middle_ = false;  // what comes first is not the file's first batch
  bool boundaries_wanted_ = true;
  RowsLimits limits_;
  std::uint64_t part_ = 1;
  std::uint64_t first_seq_ = 0;  // of the part
  std::uint64_t delivered_before_ = 0;
  std::uint64_t covered_ = 0;
  std::uint64_t schema_bytes_ = 0;
  std::optional<RowsBatch> batch_;
  std::size_t taken_ = 0;  // rows of it
  // By byte: the ends of batches that no `rows` line has named yet.
  std::map<std::uint64_t, Boundary> boundaries_;
  std::optional<std::uint64_t> unfinished_;
};

}  // namespace moetrace::trace
