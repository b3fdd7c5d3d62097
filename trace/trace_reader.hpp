// Reads a trace file, or a plain log, line by line in constant memory. file_parser.hpp says what
// may be in it.
//
//   auto reader = TraceReader::open(path);
//   if (!reader) return reader.error();
//   for (;;) {
//     auto line = reader->next();
//     if (!line) return line.error();
//     if (*line == nullptr) break;  // the end
//     if (const auto* route = std::get_if<Route>(&(*line)->content)) …
//   }
//
// What it checks: JSON, keys, types, list lengths against top_k, layers and expert ids against
// their ranges. What it leaves to `moetrace verify`: everything that needs two lines.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "trace/errors.hpp"
#include "trace/trace_lines.hpp"

namespace moetrace::trace {

// A line may be this long: a request id of 255 bytes and 32 experts need about 3 KiB.
constexpr size_t kMaxLineBytes = size_t{16} << 20;

struct ReadOptions {
  // For files that do not say it. An error where a meta line says something else.
  std::optional<uint32_t> num_experts;
  // Also read a part of which one of its two files is missing; see incomplete().
  bool one_of_two = false;
  // Give the rows of a rows file as RowRun, many at a time, instead of as Route.
  bool runs = false;
};

// What messages call the file at `path`.
std::string shown_name(const std::string& path);

class TraceReader {
 public:
  // Opens the file ("-": standard input), unpacks it if it is compressed with gzip or zstd, and
  // reads up to the line that says or shows top_k: the meta line, or the first row. Where the meta
  // line says that the rows are in another file, that file is read with it, and each row stands
  // where its line would; the rows file may also be given itself. Errors: kOpen, kRead, kEmpty,
  // kNoEnd, kNoMeta, kNoRows, kNoLines, and those of the first line. Without a number of experts
  // from either side, ids are only checked against kMaxExperts.
  static Result<TraceReader> open(const std::string& path, const ReadOptions& options = {});

  TraceReader(TraceReader&&) noexcept;
  TraceReader& operator=(TraceReader&&) noexcept;
  ~TraceReader();

  // Valid as long as the reader lives. In a plain log, meta lines that come later add to it.
  [[nodiscard]] const Meta& meta() const;
  // From meta, else from the options.
  [[nodiscard]] std::optional<uint32_t> num_experts() const;
  // One more than the highest expert so far, as long as num_experts() is not known.
  [[nodiscard]] uint32_t experts_seen() const;
  // Of the file: the same for all its names.
  [[nodiscard]] std::pair<dev_t, ino_t> identity() const;

  // The next line other than meta and blank ones, or nullptr at the end of the file. The line and
  // what it points to are valid until the next call. After an error the reader is spent: further
  // calls return the same error. A last line without a newline is one if it is the whole of a JSON
  // object.
  Result<const Line*> next();

  // kNoRows or kNoLines: the other file of this part is missing. Without its rows file the lines
  // come alone. Without its lines the rows come alone, and meta() knows only trace and top_k.
  [[nodiscard]] const std::optional<Error>& incomplete() const;
  // The rows file that is being read, and whole batches of it so far; "" and 0 without one.
  [[nodiscard]] std::string rows_file() const;
  [[nodiscard]] uint64_t batches() const;
  // What messages call the file of lines.
  [[nodiscard]] const std::string& lines_file() const;
  // Lines read so far, also blank ones and those of rows files and meta; bytes read of the rows
  // file.
  [[nodiscard]] uint64_t lines() const;
  [[nodiscard]] uint64_t rows_bytes() const;
  // After the end, of a part in two files: whether one of them has more than what its last `rows`
  // line counts, which was left out. Its collector writes it, or was killed.
  [[nodiscard]] bool uncounted();

  // After the end: what was left out there, because it is unfinished; one line, "what: why; what to
  // try". Empty: nothing was.
  [[nodiscard]] const std::string& left_out() const;

 private:
  struct Impl;
  // `rows`: the rows file that was given; "": the lines name it.
  static Result<TraceReader> open_lines(const std::string& path, const std::string& rows,
                                        const ReadOptions& options);
  static Result<TraceReader> open_without_lines(const std::string& path, const std::string& lines,
                                                const ReadOptions& options);
  explicit TraceReader(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace moetrace::trace
