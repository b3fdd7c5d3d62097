// The files of one part of a trace: the lines, and with Arrow rows a rows file beside them. Locked
// for the trace, cut back to what is whole, appended to. Only the last line and the last message
// may be incomplete, until the next write.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "daemon/collector/append_file.hpp"
#include "daemon/collector/resume.hpp"
#include "daemon/collector/rows_form.hpp"
#include "shm/errors.hpp"

namespace moetrace {

// How a part begins.
struct PartStart {
  std::string trace_id;
  std::uint64_t part = 1;
  // The trace's `meta` line, without the key `rows`.
  std::string meta;
  // Nothing: the rows are lines.
  std::optional<RowsForm> rows;
  // The number of its name is at least the part's: names rise with parts though names below are
  // free. Otherwise: the first free name.
  bool named_by_number = false;
};

class TraceFile {
 public:
  using Name = AppendFile::Name;
  using State = AppendFile::State;

  // Makes the files, or takes those that are empty or hold only `meta` and the schema. kInUse if a
  // name belongs to any other file.
  static Result<TraceFile> take_new(const Name& name, const PartStart& start);
  // The file's opening if the file belongs to the trace, otherwise nothing. Changes nothing.
  static Result<std::optional<Opening>> look(const Name& name, const std::string& trace_id);
  // Continues the files of the trace. kInUse if another collector writes them. kBadFile if the
  // lines contradict each other, or if the rows file is not theirs; then the files are unchanged.
  static Result<TraceFile> go_on(const Name& name, const std::string& trace_id);

  // Of the lines.
  const std::string& path() const { return lines_.path(); }
  // The first line.
  const std::string& meta() const { return meta_; }
  // Nothing: the rows are lines.
  const std::optional<RowsForm>& rows() const { return form_; }
  // Where the file's lines end. Nothing for a new file.
  const std::optional<TracePosition>& position() const { return position_; }

  // Append as much as the file system takes now. False: a part or all of it is missing, and
  // error() says why; call it again with the same text to append the rest.
  bool append(std::string_view lines) { return noted(lines_.append(lines), lines_); }
  bool append_rows(std::string_view message) { return noted(rows_->append(message), *rows_); }
  // Appends the schema unless the rows file has it.
  bool begin_rows();
  // False: the bytes since the last success may not be on the disk, and error() says why; call it
  // again to write them again, at growing intervals.
  bool sync();
  // False after a failure, until the next try is due.
  bool sync_is_due() const { return lines_.sync_is_due() && (!rows_ || rows_->sync_is_due()); }
  const std::string& error() const { return error_; }

  // kWhole if both files are.
  State state() const;
  // Both names still lead to the files.
  bool has_its_name() const { return lines_.has_its_name() && (!rows_ || rows_->has_its_name()); }
  // Bytes up to the end of the last append: the length of each file, as long as it is whole.
  std::uint64_t size() const { return lines_.size(); }
  std::uint64_t rows_bytes() const { return rows_ ? rows_->size() : 0; }
  // Since the file of lines was made; 0 if the file system does not say.
  std::chrono::seconds age() const { return lines_.age(); }
  // Begins `part` in files that another program has emptied. False if they are not empty.
  bool begin_anew(std::uint64_t part);

 private:
  bool noted(bool done, const AppendFile& file) {
    if (!done) error_ = file.error();
    return done;
  }

  AppendFile lines_;
  std::optional<AppendFile> rows_;
  std::string meta_;
  std::optional<RowsForm> form_;
  std::string trace_id_;
  // The first message of the rows file.
  std::string schema_;
  std::optional<TracePosition> position_;
  std::string error_;
};

}  // namespace moetrace
