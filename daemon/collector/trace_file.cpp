#include "daemon/collector/trace_file.hpp"

#include <filesystem>

#include "daemon/collector/arrow_message.hpp"

namespace moetrace {
namespace {

Error not_ours(const std::string& path) {
  return {ErrorCode::kInUse, path + ": does not belong to this trace; give another output"};
}

// Whether the file is empty, or begins with the schema as far as it goes.
Result<bool> fits_schema(int fd, const std::string& path, std::string_view schema) {
  const auto shorter = is_begin_of(fd, path, schema);
  return !shorter || *shorter ? shorter : begins_with(fd, path, schema);
}

// The rows file beside the lines; if that is missing, because the lines were renamed alone, the one
// that `meta` names. An invalid descriptor if both are.
Result<UniqueFd> find_rows(const std::string& lines_path, const RowsKey& key, std::string& path) {
  path = rows_path(lines_path);
  auto found = AppendFile::look({path});
  if (!found || found->valid()) return found;
  path = std::filesystem::path(lines_path).replace_filename(key.file).string();
  return AppendFile::look({path});
}

}  // namespace

Result<TraceFile> TraceFile::take_new(const Name& name, const PartStart& start) {
  TraceFile file;
  file.trace_id_ = start.trace_id;
  file.form_ = start.rows;
  file.meta_ = start.meta;
  const std::string rows = rows_path(name.path);
  if (start.rows) {
    file.meta_ =
        meta_with_rows(start.meta, *start.rows, std::filesystem::path(rows).filename().string());
    file.schema_ = schema_message(*start.rows, start.trace_id, start.part);
  }
  // A collector that dies in its first write of rows leaves the meta line, the schema, and rows
  // that no line counts.
  bool has_meta = false;
  auto lines = AppendFile::take_new(name, [&](int fd) -> Result<bool> {
    const auto begins = begins_with(fd, name.path, file.meta_);
    if (!begins) return begins.error();
    has_meta = *begins;
    return is_unbegun(fd, name.path, file.meta_);
  });
  if (!lines) return lines.error();
  file.lines_ = std::move(*lines);
  if (!start.rows) return file;
  auto taken = AppendFile::take_new({rows, name.may_be_link}, [&](int fd) {
    return has_meta ? fits_schema(fd, rows, file.schema_) : is_begin_of(fd, rows, file.schema_);
  });
  if (!taken) {
    file.lines_.discard();
    return taken.error();
  }
  file.rows_ = std::move(*taken);
  return file;
}

Result<std::optional<Opening>> TraceFile::look(const Name& name, const std::string& trace_id) {
  const auto fd = AppendFile::look(name);
  if (!fd) return fd.error();
  if (!fd->valid()) return std::optional<Opening>();
  auto opening = read_opening(fd->get(), name.path);
  if (!opening) return opening.error();
  if (*opening && (*opening)->trace_id != trace_id) return std::optional<Opening>();
  return opening;
}

Result<TraceFile> TraceFile::go_on(const Name& name, const std::string& trace_id) {
  auto lines = AppendFile::open(name);
  if (!lines) return lines.error();
  const auto opening = read_opening(lines->descriptor(), name.path);
  if (!opening) return opening.error();
  if (!*opening || (*opening)->trace_id != trace_id) return not_ours(name.path);
  auto point = find_resume_point(lines->descriptor(), name.path, **opening);
  if (!point) return point.error();

  TraceFile file;
  file.trace_id_ = trace_id;
  file.meta_ = (*opening)->meta;
  if (const auto& key = (*opening)->rows) {
    const auto bad = [&](const std::string& path, const std::string& why) {
      return Error{ErrorCode::kBadFile, path + ": " + why};
    };
    if (key->file.empty()) return bad(name.path, "its meta line says nothing clear about its rows");
    file.form_ = key->form;
    file.schema_ = schema_message(key->form, trace_id, (*opening)->part);
    std::string path;
    const auto found = find_rows(name.path, *key, path);
    if (!found) return found.error();
    if (!found->valid()) return bad(path, "is missing, it holds the rows of " + name.path);
    auto rows = AppendFile::open({path, name.may_be_link});
    if (!rows) return rows.error();
    const std::uint64_t whole = point->position.rows.bytes;
    if (rows->size() < whole || (whole > 0 && whole < file.schema_.size()))
      return bad(path, "is shorter than " + name.path + " says, so it was cut");
    const auto begins =
        begins_with(rows->descriptor(), path, whole > 0 ? std::string_view(file.schema_) : "");
    if (!begins) return begins.error();
    if (!*begins) return bad(path, "does not belong to " + name.path);
    // Messages beyond were never counted as consumed: the ring still has their rows.
    if (auto error = rows->cut_to(whole)) return *error;
    file.rows_ = std::move(*rows);
  }
  // An incomplete line at the end, and lines after rows that are not in the rows file, were never
  // counted as consumed: they are written again. We have read every byte before them.
  if (auto error = lines->cut_to(point->whole_bytes)) return *error;
  file.lines_ = std::move(*lines);
  file.position_ = std::move(point->position);
  return file;
}

bool TraceFile::begin_rows() {
  return !rows_ || rows_->size() >= schema_.size() || append_rows(schema_);
}

bool TraceFile::sync() {
  if (rows_ && !noted(rows_->sync(), *rows_)) return false;
  return noted(lines_.sync(), lines_);
}

TraceFile::State TraceFile::state() const {
  const State lines = lines_.state();
  return lines != State::kWhole || !rows_ ? lines : rows_->state();
}

bool TraceFile::begin_anew(std::uint64_t part) {
  if (!lines_.is_emptied() || (rows_ && !rows_->is_emptied())) return false;
  position_.reset();
  lines_.begin_anew();
  if (rows_) {
    rows_->begin_anew();
    schema_ = schema_message(*form_, trace_id_, part);
  }
  return true;
}

}  // namespace moetrace
