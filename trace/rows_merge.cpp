#include "trace/rows_merge.hpp"

#include <algorithm>
#include <array>
#include <filesystem>
#include <limits>
#include <utility>

#include "trace/line_parser.hpp"
#include "trace/line_source.hpp"

namespace moetrace::trace {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPackings[] = {"", ".gz", ".zst"};
constexpr std::string_view kLinesExtension = ".jsonl";

// A collector writes a `rows` line after each write to the file.
constexpr std::size_t kMostBoundaries = 65536;

fs::path without(const fs::path& path, std::initializer_list<std::string_view> extensions) {
  const bool has = std::find(extensions.begin(), extensions.end(), path.extension().string()) !=
                   extensions.end();
  return has ? path.parent_path() / path.stem() : path;
}

// `path` with the extension `to` in place of `from`; what follows `from` stays.
fs::path with_extension(const fs::path& path, std::string_view from, std::string_view to) {
  std::string name = path.filename().string();
  const std::size_t at = name.rfind(from);
  if (at == std::string::npos) return fs::path(path).replace_extension(to);
  name.replace(at, from.size(), to);
  return fs::path(path).replace_filename(name);
}

std::string first_there(const fs::path& name) {
  for (const std::string_view packing : kPackings) {
    fs::path path = name;
    path += packing;
    std::error_code failed;
    if (fs::exists(path, failed)) return path.string();
  }
  return {};
}

}  // namespace

std::string find_rows_file(const std::string& path, const RowsMeta& rows) {
  // The name beside the lines goes first: a pair that was renamed, as trace.jsonl.1 and
  // trace.arrows.1, may lie beside the next part, which has the old names.
  std::string found = first_there(
      with_extension(without(path, {".gz", ".zst"}), kLinesExtension, arrow::kExtension));
  if (!found.empty()) return found;
  return first_there(fs::path(path).parent_path() / rows.file);
}

std::string find_lines(const std::string& path, bool& there) {
  const fs::path lines =
      with_extension(without(path, {".gz", ".zst"}), arrow::kExtension, kLinesExtension);
  std::string found = first_there(lines);
  there = !found.empty();
  return there ? found : lines.string();
}

std::optional<RowsWritten> last_rows_line(const std::string& path) {
  auto bytes = ByteSource::open(path);
  if (!bytes) return std::nullopt;
  LineSource lines(std::move(*bytes));
  LineParser parser(
      {.top_k = 0, .num_experts = kMaxExperts, .num_layers = kMaxLayers, .plain = false});
  Content content;
  std::optional<RowsWritten> last;
  for (;;) {
    const auto next = lines.next();
    if (next.status != LineSource::Status::kLine) return last;
    // Only a look: step lines have the word, too, but as a key.
    constexpr std::size_t kFarEnough = 64;
    if (next.line.substr(0, kFarEnough).find("\"rows\",") == std::string_view::npos) continue;
    if (!parser.parse(next.line, content)) continue;
    if (const auto* line = std::get_if<RowsWritten>(&content)) last = *line;
  }
}

RowsMerge::RowsMerge(std::string name, RowsFile file, std::optional<RowsWritten> written)
    : name_(std::move(name)), file_(std::move(file)), written_(written) {
  if (written_) covered_ = written_->seq;
}

RowsMerge::RowsMerge(std::string name, RowsFile file)
    : name_(std::move(name)),
      file_(std::move(file)),
      without_lines_(true),
      covered_(std::numeric_limits<std::uint64_t>::max()) {}

Error RowsMerge::wrong(const Error& error) const {
  return {error.code, name_ + ": " + error.message, error.remedy};
}

Result<const RowsSchema*> RowsMerge::schema() {
  auto schema = file_.schema();
  if (!schema) return wrong(schema.error());
  return schema;
}

Result<void> RowsMerge::check(const Meta& meta) {
  if (!written_) return {};  // the file may still be empty
  const auto schema = this->schema();
  if (!schema) return schema.error();
  const RowsSchema& has = **schema;
  schema_bytes_ = file_.offset();
  const auto other = [this](const std::string& what) {
    return Error{ErrorCode::kMismatch, name_ + ": its rows are not those of the lines: " + what,
                 "put the two files of one part into one folder, under their names"};
  };
  if (has.trace_id != meta.trace_id) {
    return other("they are of trace " + has.trace_id + ", the lines of " + *meta.trace_id);
  }
  if (has.top_k != meta.top_k) {
    return other("they have top_k " + std::to_string(has.top_k) + ", the lines " +
                 std::to_string(meta.top_k));
  }
  if (has.wide != meta.rows->wide) return other("\"wide\" of the meta line is not true of them");
  const std::string_view weights = has.weights == StoredWeights::kFloat32   ? "float32"
                                   : has.weights == StoredWeights::kFloat16 ? "float16"
                                                                            : "";
  if (weights != meta.rows->weights.value_or("")) {
    return other("the weights of the meta line are " + meta.rows->weights.value_or("null") +
                 ", theirs are " + std::string(weights.empty() ? "null" : weights));
  }
  return {};
}

Result<void> RowsMerge::cover(const RowsWritten& line, const Meta& meta) {
  const bool first = !written_;
  if (first || line.seq > written_->seq) written_ = line;
  covered_ = std::max(covered_, line.seq);
  return first ? check(meta) : Result<void>();
}

Result<Meta> RowsMerge::meta_without_lines() {
  const auto schema = this->schema();
  if (!schema) return schema.error();
  Meta meta;
  meta.schema = "moetrace/1";
  meta.trace_id = (*schema)->trace_id;
  meta.top_k = (*schema)->top_k;
  return meta;
}

Result<void> RowsMerge::start_at(std::uint64_t byte) {
  boundaries_wanted_ = false;
  if (!written_ && !without_lines_) return {};  // the file may still be empty
  if (const auto known = schema(); !known) return known.error();
  in_the_middle_ = byte > file_.offset();
  if (const auto there = file_.skip_to(byte); !there) return wrong(there.error());
  return {};
}

void RowsMerge::begin(const Base& base) {
  part_ = base.part.value_or(1);
  first_seq_ = base.seq;
  delivered_before_ = base.totals.delivered.value_or(0);
  covered_ = std::max(covered_, base.seq);
}

Result<void> RowsMerge::read_batch() {
  const bool first = !batch_;
  batch_.reset();
  taken_ = 0;
  if (first && !without_lines_) {
    const auto schema = this->schema();
    if (!schema) return schema.error();
    if ((*schema)->part != part_) {
      return Error{ErrorCode::kMismatch,
                   name_ + ": is part " + std::to_string((*schema)->part) +
                       " of the trace, its lines are part " + std::to_string(part_),
                   "put the two files of one part into one folder, under their names"};
    }
  }
  const std::uint64_t end = without_lines_ ? std::numeric_limits<std::uint64_t>::max()
                            : written_     ? written_->bytes
                                           : 0;
  const auto next = file_.next(limits_, end);
  if (!next) {
    if (without_lines_ && file_.unfinished()) {
      unfinished_ = file_.unfinished();
      return {};
    }
    return wrong(next.error());
  }
  if (*next == nullptr) {
    if (without_lines_ || file_.offset() >= end) return {};
    return Error{ErrorCode::kBadRows, name_ + ": byte " + std::to_string(file_.offset()) +
                                          ": the file ends here; its last rows line says that it "
                                          "has " +
                                          std::to_string(end) + " bytes"};
  }
  batch_ = **next;
  if (first && !without_lines_ && !in_the_middle_) {
    if (batch_->first_seq < first_seq_) {
      return Error{ErrorCode::kBadRows, name_ + ": its rows begin at seq " +
                                            std::to_string(batch_->first_seq) +
                                            ", but the lines at " + std::to_string(first_seq_)};
    }
    if (batch_->delivered != delivered_before_ + batch_->rows.size()) {
      return Error{ErrorCode::kBadRows,
                   name_ + ": \"" + std::string(arrow::kDeliveredKey) +
                       "\" of the first batch is " + std::to_string(batch_->delivered) +
                       ", but it makes " + std::to_string(delivered_before_ + batch_->rows.size())};
    }
  }
  if (without_lines_ || !boundaries_wanted_) return {};
  if (boundaries_.size() == kMostBoundaries) {
    return Error{ErrorCode::kBadRows, name_ + ": no rows line names its last " +
                                          std::to_string(kMostBoundaries) + " batches"};
  }
  boundaries_[batch_->end_byte] = {batch_->number, batch_->delivered, batch_->next_seq};
  return {};
}

Result<std::optional<RowRun>> RowsMerge::next(std::uint64_t seq) {
  seq = std::min(seq, covered_);
  for (;;) {
    if (batch_ && taken_ < batch_->rows.size()) {
      const auto& numbers = batch_->rows.seq;
      const auto from = numbers.begin() + static_cast<std::ptrdiff_t>(taken_);
      const auto bound = static_cast<std::int64_t>(
          std::min<std::uint64_t>(seq, std::numeric_limits<std::int64_t>::max()));
      const auto to =
          numbers.back() < bound ? numbers.end() : std::lower_bound(from, numbers.end(), bound);
      if (from == to) return std::optional<RowRun>();
      const auto count = static_cast<std::size_t>(to - from);
      return std::optional(batch_->rows.part(std::exchange(taken_, taken_ + count), count));
    }
    const bool first = !batch_ && file_.batches() == 0;
    if (!first && !batch_) return std::optional<RowRun>();  // the file has ended
    if (seq <= (first ? first_seq_ : batch_->next_seq) && !without_lines_) {
      return std::optional<RowRun>();
    }
    if (const auto read = read_batch(); !read) return read.error();
    if (!batch_) return std::optional<RowRun>();
  }
}

Result<void> RowsMerge::check(const RowsWritten& line) {
  const auto bad = [](std::string why) { return Error{ErrorCode::kBadLine, std::move(why)}; };
  const auto schema = this->schema();
  if (!schema) return schema.error();
  Boundary boundary{0, delivered_before_, first_seq_};
  const auto found = boundaries_.find(line.bytes);
  if (found != boundaries_.end()) {
    boundary = found->second;
    boundaries_.erase(boundaries_.begin(), found);
  } else if (line.bytes != schema_bytes_ ||
             (!boundaries_.empty() && boundaries_.begin()->second.batches > 1)) {
    return bad("\"bytes\" is " + std::to_string(line.bytes) + ", but no batch of " + name_ +
               " ends there");
  }
  const struct {
    const char* key;
    std::uint64_t says, is;
  } both[] = {{"batches", line.batches, boundary.batches},
              {"delivered_total", line.delivered_total, boundary.delivered}};
  for (const auto& [key, says, is] : both) {
    if (says != is) {
      return bad("\"" + std::string(key) + "\" is " + std::to_string(says) + ", but " + name_ +
                 " has " + std::to_string(is));
    }
  }
  if (line.seq < boundary.next_seq) {
    return bad("\"seq\" is " + std::to_string(line.seq) + ", but " + name_ + " has rows up to " +
               std::to_string(boundary.next_seq));
  }
  return {};
}

bool RowsMerge::goes_on() {
  const auto next = file_.next(limits_);
  return next ? *next != nullptr : file_.offset() > 0;
}

Result<void> RowsMerge::check_end() {
  if (!written_ || !goes_on()) return {};
  return Error{ErrorCode::kBadRows, name_ + ": byte " + std::to_string(written_->bytes) +
                                        ": the file goes on after what the last rows line says"};
}

}  // namespace moetrace::trace
