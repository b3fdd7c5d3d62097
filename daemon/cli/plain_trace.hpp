// Makes a trace of a plain log, in the way of `moetrace replay`: rows become steps, and names
// become requests that begin with their first row. What the log does not say stays unknown.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "daemon/cli/losses.hpp"
#include "daemon/cli/outcome.hpp"
#include "daemon/cli/replay_steps.hpp"
#include "daemon/cli/trace_writer.hpp"
#include "daemon/collector/lines.hpp"
#include "daemon/collector/running_totals.hpp"
#include "trace/trace_lines.hpp"

namespace moetrace::cli {

// The meta line, without a newline, of a trace of this log; it needs top_k and num_experts.
// `layers_logged` of `meta`: all layers with rows.
std::string plain_trace_meta(const trace::Meta& meta, const std::string& trace_id);

class PlainTrace {
 public:
  // `meta`: of the trace. Both others outlive this.
  PlainTrace(const trace::Meta& meta, TraceWriter& writer, Losses& losses);

  // Takes the log's next line. Returns why it can't become the trace's, or nothing; so does the
  // other function.
  std::optional<Failure> take(const trace::Line& line);
  // Writes the last rows, and the end line.
  std::optional<Failure> finish();

 private:
  std::optional<Failure> take_row(const trace::Route& route, const LinePlace& place);
  std::uint64_t request_of(std::string_view name);
  void write_step(const ReplayStep& step);
  void write_rows(const ReplayStep& step);
  void put_line(const trace::Content& content);

  const trace::Meta& meta_;
  TraceWriter& writer_;
  Losses& losses_;
  ReplaySteps steps_;
  std::unordered_map<std::string, std::uint64_t> requests_;
  RunningTotals totals_;
  std::uint64_t events_ = 0;
  std::uint64_t next_step_ = 0;
  LineBuffer buffer_;
  std::optional<Failure> failed_;
};

}  // namespace moetrace::cli
