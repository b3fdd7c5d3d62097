// Writes a trace in one of its two forms: rows as lines, or as Arrow.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "daemon/cli/losses.hpp"
#include "daemon/cli/outcome.hpp"
#include "daemon/collector/rows_form.hpp"
#include "trace/trace_lines.hpp"

namespace moetrace::cli {

// Where a line stands in the input, for messages.
struct LinePlace {
  std::uint64_t number = 0;
  // The input's own text of it, without a newline; "": it has none.
  std::string_view text;
};

// The functions return why the trace can't be written, or nothing.
class TraceWriter {
 public:
  virtual ~TraceWriter() = default;

  // `text`: of the meta line, without a newline and without the key `rows`.
  virtual std::optional<Failure> begin(std::string_view text) = 0;
  // Another line than a row, without a newline and without the key `at_seq`.
  virtual std::optional<Failure> line(std::string_view text, const trace::Content& content) = 0;
  // A row, with `step` and `seq`. Only one with a text can lose something.
  virtual std::optional<Failure> row(const trace::Route& route, const LinePlace& place) = 0;
  // Ends the output and brings it to the disk.
  virtual std::optional<Failure> finish() = 0;
  // After finish(): gives the files their names.
  virtual std::optional<Failure> publish() = 0;

  // A number was too large for the columns: write the trace again, with wide ones.
  virtual bool outgrown() const { return false; }
};

using NewWriter = boost::system::result<std::unique_ptr<TraceWriter>, Failure>;

// `path`: "-" is standard output. `meta`: with num_experts and top_k.
NewWriter json_writer(const std::string& path, bool force, const trace::Meta& meta);
// `path`: of the rows file; the lines are beside it. `losses` outlives the writer.
NewWriter arrow_writer(const std::string& path, bool force, const trace::Meta& meta,
                       const RowsForm& form, RowCompression compression, Losses& losses);

// The file of lines of a rows file: `trace.jsonl` of `trace.arrows`.
std::string lines_path(const std::string& rows_path);

}  // namespace moetrace::cli
