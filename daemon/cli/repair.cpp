#include "daemon/cli/repair.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <optional>

#include "common/text.hpp"
#include "daemon/cli/next_step.hpp"
#include "daemon/collector/append_file.hpp"
#include "trace/arrow_body.hpp"
#include "trace/file_parser.hpp"
#include "trace/line_source.hpp"
#include "trace/rows_file.hpp"
#include "trace/trace_reader.hpp"

namespace moetrace::cli {
namespace {

// What is to be done at the end of a file.
struct End {
  std::uint64_t keep = 0;  // bytes
  bool newline = false;    // the last line lacks nothing else
  std::string what;        // is cut off
};
using FoundEnd = boost::system::result<End, Failure>;

Failure damaged(const std::string& path, const trace::Error& error) {
  return {kFailed, path + ": " + error.message +
                       "; this is not an unfinished end, so nothing was changed; copy the file "
                       "again from where it is whole"};
}

// The file, open and locked, so that no collector can write it meanwhile.
boost::system::result<AppendFile, Failure> take(const std::string& path) {
  auto source = trace::ByteSource::open(path);
  if (!source) return Failure{kFailed, source.error().message};
  if (source->packing() != trace::Packing::kNone)
    return Failure{kFailed, path + ": is compressed; unpack it, and repair that file"};
  auto file = AppendFile::open({path, true});
  if (file) return std::move(*file);
  if (file.error().code == ErrorCode::kInUse)
    return Failure{kFailed, path + ": a collector writes it; wait until the trace has ended"};
  return Failure{kFailed, file.error().message};
}

// Reads every line. The last one is unfinished if it is not a whole JSON object.
FoundEnd end_of_lines(const AppendFile& file) {
  auto bytes = trace::ByteSource::of(file.descriptor());
  if (!bytes) return damaged(file.path(), bytes.error());
  trace::LineSource lines(std::move(*bytes));
  trace::FileParser parser(std::nullopt);
  trace::Content content;
  End end;
  for (std::uint64_t number = 1;; ++number) {
    using Status = trace::LineSource::Status;
    const auto next = lines.next();
    const auto at_line = [&](trace::Error error) {
      error.message = "line " + std::to_string(number) + ": " + error.message;
      return damaged(file.path(), error);
    };
    if (next.status == Status::kEnd) return end;
    if (next.status == Status::kReadFailed) return damaged(file.path(), lines.bytes().error());
    if (next.status == Status::kTooLong)
      return at_line({trace::ErrorCode::kTooLong, "longer than any line of a trace"});
    bool unfinished = false;
    const auto taken = next.status == Status::kLine
                           ? parser.take(next.line, number, content)
                           : parser.take_last(next.line, number, content, unfinished);
    if (taken == trace::FileParser::Taken::kWrong) return at_line(parser.error());
    if (next.status == Status::kLine) {
      end.keep += next.line.size() + 1;
      continue;
    }
    if (unfinished) {
      end.what = "an unfinished line, line " + std::to_string(number);
    } else {
      end.keep += next.line.size();
      end.newline = true;
    }
    return end;
  }
}

// Whether the file has only zeros from `offset` on: a file system that lost power knows the
// length of what it did not write.
bool zeros_from(int fd, std::uint64_t offset) {
  std::vector<char> block(1 << 16);
  for (;;) {
    const ssize_t got = ::pread(fd, block.data(), block.size(), static_cast<off_t>(offset));
    if (got <= 0) return got == 0;
    if (std::any_of(block.begin(), block.begin() + got, [](char byte) { return byte != 0; }))
      return false;
    offset += static_cast<std::uint64_t>(got);
  }
}

// Whether a whole message begins somewhere after `offset`: what looks unfinished there was changed.
bool has_message_after(int fd, std::uint64_t offset, const trace::RowsLimits& limits) {
  std::vector<std::uint8_t> block(1 << 16);
  for (offset += arrow::kAlignment;; offset += block.size()) {
    const ssize_t got = ::pread(fd, block.data(), block.size(), static_cast<off_t>(offset));
    if (got <= 0) return false;
    const auto bytes = static_cast<std::size_t>(got);
    for (std::size_t at = 0; at + arrow::kPrefixBytes <= bytes; at += arrow::kAlignment) {
      if (!trace::begins_rows_file({block.data() + at, arrow::kPrefixBytes})) continue;
      auto rows = trace::RowsFile::of(fd);
      if (!rows || !rows->skip_to(offset + at)) return true;
      if (const auto batch = rows->next(limits); batch && *batch != nullptr) return true;
    }
  }
}

// Reads every message, with its checksum.
FoundEnd end_of_rows(const AppendFile& file, const trace::Meta& meta) {
  auto rows = trace::RowsFile::of(file.descriptor());
  if (!rows) return damaged(file.path(), rows.error());
  const trace::RowsLimits limits =
      meta.rows ? trace::rows_limits(meta, std::nullopt) : trace::RowsLimits();
  End end;
  for (;;) {
    const auto batch = rows->next(limits);
    end.keep = rows->offset();
    if (batch && *batch != nullptr) continue;
    if (batch) return end;  // it may be the end marker of another writer
    const bool cut = rows->unfinished() ? !has_message_after(file.descriptor(), end.keep, limits)
                                        : zeros_from(file.descriptor(), end.keep);
    if (!cut || end.keep == 0) return damaged(file.path(), batch.error());
    end.what = "an unfinished message after " + std::to_string(rows->batches()) + " whole";
    return end;
  }
}

std::optional<Failure> apply(AppendFile& file, const End& end, std::vector<std::string>& done) {
  if (!end.what.empty()) {
    const std::uint64_t bytes = file.size() - end.keep;
    if (const auto wrong = file.cut_to(end.keep)) return Failure{kFailed, wrong->message};
    done.push_back(file.path() + ": cut " + counted(bytes, "byte") + " off its end: " + end.what);
  }
  if (end.newline) {
    if (!file.append("\n")) return Failure{kFailed, file.error()};
    done.push_back(file.path() + ": added the newline of its last line");
  }
  if (!file.sync()) return Failure{kFailed, file.error()};
  return std::nullopt;
}

}  // namespace

boost::system::result<std::vector<std::string>, Failure> repair(const std::string& file,
                                                                const std::string& directory) {
  std::error_code unknown;
  if (file == "-" || !std::filesystem::is_regular_file(file, unknown))
    return Failure{kFailed, trace::shown_name(file) + ": --repair needs the name of a file"};
  auto reader = trace::TraceReader::open(file, {.num_experts = {}, .one_of_two = true});
  if (!reader)
    return Failure{kFailed, reader.error().message + "; " + trace::what_to_try(reader.error())};
  const trace::Meta& meta = reader->meta();
  if (collector_writes(directory, meta))
    return Failure{kFailed, file + ": a collector writes it; wait until the trace has ended"};

  // Both ends are found before anything is changed.
  std::optional<AppendFile> lines, rows;
  End lines_end, rows_end;
  const bool without_lines =
      reader->incomplete() && reader->incomplete()->code == trace::ErrorCode::kNoLines;
  if (!without_lines) {
    auto taken = take(reader->lines_file());
    if (!taken) return taken.error();
    lines.emplace(std::move(*taken));
    const auto end = end_of_lines(*lines);
    if (!end) return end.error();
    lines_end = *end;
  }
  if (!reader->rows_file().empty()) {
    auto taken = take(reader->rows_file());
    if (!taken) return taken.error();
    rows.emplace(std::move(*taken));
    const auto end = end_of_rows(*rows, meta);
    if (!end) return end.error();
    rows_end = *end;
  }
  std::vector<std::string> done;
  if (rows) {
    if (auto wrong = apply(*rows, rows_end, done)) return *wrong;
  }
  if (lines) {
    if (auto wrong = apply(*lines, lines_end, done)) return *wrong;
  }
  return done;
}

}  // namespace moetrace::cli
