#include "trace/trace_reader.hpp"

#include <algorithm>
#include <deque>
#include <filesystem>
#include <utility>

#include "trace/file_parser.hpp"
#include "trace/line_source.hpp"
#include "trace/row_routes.hpp"
#include "trace/rows_merge.hpp"

namespace moetrace::trace {
namespace {

std::string in_bytes(size_t size) {
  return std::to_string(size) + (size == 1 ? " byte" : " bytes");
}

}  // namespace

std::string shown_name(const std::string& path) {
  return path == "-" ? "standard input" : path;
}

struct TraceReader::Impl {
  Impl(const std::string& path, std::optional<ByteSource> bytes, const ReadOptions& options)
      : name(shown_name(path)), runs(options.runs), parser(options.num_experts) {
    if (bytes) {
      identity = bytes->identity();
      source.emplace(std::move(*bytes));
    }
  }

  Error at_line(const Error& error) const;
  Error too_long() const;
  // What reading a line gave. kNothing: it was blank or a meta line; kFailed: see `failed`.
  enum class Took : uint8_t { kNothing, kLine, kEnd, kFailed };
  Took take_next();
  Took fail(Error error);
  void leave_out(size_t unfinished_bytes);

  // ---- rows in another file ----
  Result<void> find_rows(const std::string& path, const std::string& given, bool one_of_two);
  Took next_of_both();
  Took next_row(uint64_t below);
  Took take_written();
  // What the line that was read means for the rows. False: it is wrong, or over.
  bool note_line();

  std::string name;
  bool runs;
  std::pair<dev_t, ino_t> identity{};
  std::optional<LineSource> source;  // nothing: only the rows are there
  FileParser parser;
  std::optional<RowsMerge> rows;
  RowRoutes routes;
  Line row{.number = 0, .text = {}, .content = {}};
  // `rows` lines that were read, before all their rows have come.
  struct Written {
    uint64_t line;
    RowsWritten content;
  };
  std::deque<Written> written;
  // What was read of the lines and has not been given yet: kLine, kEnd; kNothing: nothing.
  Took pending = Took::kNothing;
  uint64_t pending_seq = 0;  // rows below come before it
  uint64_t last_at_seq = 0;
  bool has_end = false;
  bool uncovered = false;  // a line was left out, as rows before it are not counted
  std::optional<Error> incomplete;
  Line* now = &line;  // what next() gives
  Line line{.number = 0, .text = {}, .content = {}};
  Took last = Took::kNothing;  // kLine: open() has read it, and next() is to give it
  std::optional<Error> failed;
  std::string left_out;
};

// A line that is wrong, with how to look at it.
Error TraceReader::Impl::at_line(const Error& error) const {
  if (error.code == ErrorCode::kNoMeta) {
    return {error.code, name + ": not a trace: " + error.message, error.remedy};
  }
  Error whole{error.code, name + ": line " + std::to_string(line.number) + ": " + error.message,
              error.remedy};
  const bool of_the_line = error.code == ErrorCode::kBadJson || error.code == ErrorCode::kBadLine ||
                           error.code == ErrorCode::kBadMeta;
  if (of_the_line && error.remedy.empty()) {
    const Packing packing = source->bytes().packing();
    const std::string show = "sed -n " + std::to_string(line.number) + "p";
    whole.remedy = "look at it: " + (packing == Packing::kGzip   ? "zcat FILE | " + show
                                     : packing == Packing::kZstd ? "zstdcat FILE | " + show
                                                                 : show + " FILE");
  }
  return whole;
}

Error TraceReader::Impl::too_long() const {
  const std::string why = "longer than " + std::to_string(kMaxLineBytes >> 20) +
                          " MiB, the most that a line of a trace may have";
  if (parser.begun()) return at_line({ErrorCode::kTooLong, why});
  return at_line({ErrorCode::kNoMeta, "its first line is " + why});
}

void TraceReader::Impl::leave_out(size_t bytes) {
  const std::string number = std::to_string(line.number);
  if (source->bytes().cut()) {
    left_out =
        name + ": the compressed data end early, " +
        (bytes == 0 ? "after line " + number
                    : "in line " + number + ", of which " + in_bytes(bytes) + " were left out") +
        "; copy the file again, or wait until its writer has ended";
  } else if (bytes > 0) {
    left_out = name + ": left out 1 unfinished line: line " + number + " has " + in_bytes(bytes) +
               " and no newline; wait until its writer has ended the line";
  }
}

TraceReader::Impl::Took TraceReader::Impl::fail(Error error) {
  failed = std::move(error);
  return Took::kFailed;
}

TraceReader::Impl::Took TraceReader::Impl::take_next() {
  const auto next = source->next();
  if (next.status == LineSource::Status::kReadFailed) {
    const Error& why = source->bytes().error();
    return fail({why.code, name + ": " + why.message, why.remedy});
  }
  if (next.status == LineSource::Status::kEnd) {
    if (!parser.begun()) return fail({ErrorCode::kEmpty, name + ": not a trace: it is empty"});
    leave_out(0);
    return Took::kEnd;
  }
  ++line.number;
  line.text = next.line;
  if (next.status == LineSource::Status::kTooLong) return fail(too_long());
  bool unfinished = false;
  const FileParser::Taken taken =
      next.status == LineSource::Status::kLine
          ? parser.take(next.line, line.number, line.content)
          : parser.take_last(next.line, line.number, line.content, unfinished);
  if (taken == FileParser::Taken::kContent) return Took::kLine;
  if (taken == FileParser::Taken::kWrong) return fail(at_line(parser.error()));
  if (!unfinished) return Took::kNothing;
  if (!parser.begun()) {
    return fail(at_line({ErrorCode::kNoEnd, "unfinished: it has no newline"}));
  }
  leave_out(next.line.size());
  return Took::kEnd;
}

Result<TraceReader> TraceReader::open(const std::string& path, const ReadOptions& options) {
  if (path != "-" && is_rows_file(path)) {
    bool there = false;
    const std::string lines = find_lines(path, there);
    if (there) return open_lines(lines, path, options);
    return open_without_lines(path, lines, options);
  }
  return open_lines(path, {}, options);
}

Result<TraceReader> TraceReader::open_lines(const std::string& path, const std::string& rows,
                                            const ReadOptions& options) {
  auto bytes = ByteSource::open(path);
  if (!bytes) return bytes.error();
  auto impl = std::make_unique<Impl>(path, std::move(*bytes), options);
  // No further than it must: what comes through a pipe may come later.
  while (impl->last == Impl::Took::kNothing && impl->parser.meta().top_k == 0) {
    impl->last = impl->take_next();
  }
  if (impl->failed && !impl->parser.begun()) return *impl->failed;
  if (const auto found = impl->find_rows(path, rows, options.one_of_two); !found) {
    return found.error();
  }
  return TraceReader(std::move(impl));
}

Result<TraceReader> TraceReader::open_without_lines(const std::string& path,
                                                    const std::string& lines,
                                                    const ReadOptions& options) {
  const Error missing{ErrorCode::kNoLines,
                      path + ": its lines should be in " + lines +
                          ", which is not there, so requests' names, steps and totals are unknown"};
  if (!options.one_of_two) return missing;
  auto file = RowsFile::open(path);
  if (!file) return file.error();
  auto impl = std::make_unique<Impl>(path, std::nullopt, options);
  impl->incomplete = missing;
  if (auto same = ByteSource::open(path)) impl->identity = same->identity();
  impl->rows.emplace(path, std::move(*file));
  auto meta = impl->rows->meta_without_lines();
  if (!meta) return meta.error();
  impl->parser.begin_without_lines(std::move(*meta));
  impl->rows->set_limits({.num_experts = impl->parser.num_experts().value_or(kMaxExperts)});
  return TraceReader(std::move(impl));
}

// `given`: the rows file that the user named; "": none.
Result<void> TraceReader::Impl::find_rows(const std::string& path, const std::string& given,
                                          bool one_of_two) {
  const Meta& meta = parser.meta();
  if (!meta.rows) {
    if (given.empty()) return {};
    return Error{
        ErrorCode::kMismatch,
        given + ": its lines should be in " + name + ", which says nothing of rows in another file",
        "put the two files of one part into one folder, under their names"};
  }
  std::error_code failed_to_look;
  if (path == "-" || !std::filesystem::is_regular_file(path, failed_to_look)) {
    return Error{ErrorCode::kNoRows, name + ": its rows are in another file, " + meta.rows->file,
                 "give both by name"};
  }
  const std::string found = given.empty() ? find_rows_file(path, *meta.rows) : given;
  if (found.empty()) {
    incomplete = Error{ErrorCode::kNoRows,
                       name + ": its rows are in " + meta.rows->file + ", which is not there"};
    if (!one_of_two) return *incomplete;
    return {};
  }
  auto file = RowsFile::open(found);
  if (!file) return file.error();
  rows.emplace(found, std::move(*file), last_rows_line(path));
  rows->set_limits(rows_limits(meta, parser.num_experts()));
  routes.set_layers(meta);
  if (const auto fits = rows->check(meta); !fits) return fits.error();
  return {};
}

bool TraceReader::Impl::note_line() {
  const auto wrong = [this](std::string why) {
    fail(at_line({ErrorCode::kBadLine, std::move(why)}));
    return false;
  };
  if (std::holds_alternative<Route>(line.content)) {
    return wrong("is a row, though the meta line says that the rows are in another file");
  }
  if (const auto* base = std::get_if<Base>(&line.content)) rows->begin(*base);
  const auto at_seq = parser.at_seq();
  if (!at_seq && !std::holds_alternative<Unknown>(line.content)) {
    return wrong("missing key \"at_seq\"");
  }
  pending_seq = at_seq.value_or(last_at_seq);
  if (pending_seq < last_at_seq) {
    return wrong("\"at_seq\" is " + std::to_string(pending_seq) + " after " +
                 std::to_string(last_at_seq));
  }
  last_at_seq = pending_seq;
  has_end = has_end || std::holds_alternative<End>(line.content);
  if (pending_seq <= rows->covered()) return true;
  if (has_end) {
    return wrong("\"at_seq\" is " + std::to_string(pending_seq) + ", but the last rows line says " +
                 std::to_string(rows->covered()));
  }
  uncovered = true;
  return false;  // the collector has still to write the rows before it
}

// Gives the next rows below `below`; kNothing: there are none.
TraceReader::Impl::Took TraceReader::Impl::next_row(uint64_t below) {
  if (!routes.next(row.content)) {
    auto run = rows->next(below);
    if (!run) return fail(run.error());
    if (!*run) return Took::kNothing;
    parser.note(**run);
    if (runs) {
      row.content = **run;
    } else {
      routes.take(**run, row.content);
    }
  }
  if (!written.empty()) {
    row.number = std::min(line.number, written.front().line) - 1;
  } else {
    row.number = line.number - (pending == Took::kLine ? 1 : 0);
  }
  now = &row;
  return Took::kLine;
}

TraceReader::Impl::Took TraceReader::Impl::take_written() {
  const Written first = written.front();
  written.pop_front();
  if (const auto good = rows->check(first.content); !good) {
    if (good.error().code != ErrorCode::kBadLine) return fail(good.error());
    line.number = first.line;
    return fail(at_line(good.error()));
  }
  row.number = first.line;
  row.content = first.content;
  now = &row;
  return Took::kLine;
}

// The lines and the rows in one order.
TraceReader::Impl::Took TraceReader::Impl::next_of_both() {
  // Lines of one write of the rows file.
  constexpr size_t kMostWritten = 65536;
  while (pending == Took::kNothing) {
    const Took took = source ? take_next() : Took::kEnd;
    if (took == Took::kFailed) return took;
    if (took == Took::kLine) {
      if (const auto* content = std::get_if<RowsWritten>(&line.content)) {
        if (written.size() == kMostWritten) {
          return fail(at_line({ErrorCode::kBadLine, "follows too many rows lines without rows"}));
        }
        if (const auto fits = rows->cover(*content, parser.meta()); !fits)
          return fail(fits.error());
        written.push_back({line.number, *content});
        continue;
      }
      pending = note_line() ? Took::kLine : Took::kEnd;
      if (failed) return Took::kFailed;
    }
    if (took == Took::kEnd) pending = took;
    if (pending == Took::kEnd) pending_seq = rows->covered();
  }
  for (;;) {
    const bool of_written = !written.empty() && written.front().content.seq <= pending_seq;
    const Took took = next_row(of_written ? written.front().content.seq : pending_seq);
    if (took != Took::kNothing) return took;
    if (!of_written) break;
    return take_written();
  }
  now = &line;
  const Took took = std::exchange(pending, Took::kNothing);
  if (took != Took::kEnd) {
    routes.note(line.content);
    return took;
  }
  if (has_end) {
    if (const auto ended = rows->check_end(); !ended) return fail(ended.error());
  }
  if (rows->unfinished()) {
    left_out = name + ": left out 1 unfinished message: " + in_bytes(*rows->unfinished()) +
               " at its end; wait until its writer has ended the message";
  }
  return took;
}

TraceReader::TraceReader(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
TraceReader::TraceReader(TraceReader&&) noexcept = default;
TraceReader& TraceReader::operator=(TraceReader&&) noexcept = default;
TraceReader::~TraceReader() = default;

const Meta& TraceReader::meta() const {
  return impl_->parser.meta();
}

std::optional<uint32_t> TraceReader::num_experts() const {
  return impl_->parser.num_experts();
}

uint32_t TraceReader::experts_seen() const {
  return impl_->parser.experts_seen();
}

std::pair<dev_t, ino_t> TraceReader::identity() const {
  return impl_->identity;
}

const std::optional<Error>& TraceReader::incomplete() const {
  return impl_->incomplete;
}

std::string TraceReader::rows_file() const {
  return impl_->rows ? impl_->rows->name() : std::string();
}

uint64_t TraceReader::batches() const {
  return impl_->rows ? impl_->rows->batches() : 0;
}

const std::string& TraceReader::lines_file() const {
  return impl_->name;
}

uint64_t TraceReader::lines() const {
  return impl_->line.number;
}

uint64_t TraceReader::rows_bytes() const {
  return impl_->rows ? impl_->rows->offset() : 0;
}

bool TraceReader::uncounted() {
  return impl_->rows && (impl_->uncovered || impl_->rows->goes_on());
}

const std::string& TraceReader::left_out() const {
  return impl_->left_out;
}

Result<const Line*> TraceReader::next() {
  using Took = Impl::Took;
  Impl& impl = *impl_;
  if (impl.last == Took::kFailed) return *impl.failed;
  if (impl.last == Took::kEnd) return nullptr;
  Took took = std::exchange(impl.last, Took::kNothing);
  while (took == Took::kNothing) took = impl.rows ? impl.next_of_both() : impl.take_next();
  if (took == Took::kLine) return impl.now;
  impl.last = took;
  if (took == Took::kFailed) return *impl.failed;
  return nullptr;
}

}  // namespace moetrace::trace
