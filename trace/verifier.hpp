// Checks a trace against itself, from its lines alone.
//
// An error is what no collector writes, whatever its producer says: a broken schema or sequence, or
// totals that the lines do not explain (trace_sums.hpp). A warning is an engine that contradicts
// itself (warnings.hpp). Memory: the live requests, the rows of one step, and the announced steps
// that have no row yet.
#pragma once

#include <bitset>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "trace/live_requests.hpp"
#include "trace/seen_rows.hpp"
#include "trace/selection.hpp"
#include "trace/trace_lines.hpp"
#include "trace/trace_sums.hpp"
#include "trace/warnings.hpp"

namespace moetrace::trace {

// What a good trace holds. Of several parts: all of them together.
struct TraceSummary {
  bool plain = false;  // the public format: no numbers or totals that could be checked
  std::uint64_t parts = 1;
  std::uint64_t first_part = 1;   // parts before it were not given
  std::uint64_t rows_before = 0;  // delivered in them; `rows` and the totals are without them
  std::uint64_t rows = 0;
  std::uint64_t steps = 0;
  std::uint64_t requests = 0;
  std::bitset<kMaxLayers> layers;  // in which there are rows
  // For plain files only `rows` is known.
  std::uint64_t attempted = 0;
  std::uint64_t filtered = 0;
  std::uint64_t dropped = 0;
  std::uint64_t torn = 0;
  std::string status;                 // of the last end line, such as "closed"
  std::optional<double> cost_ns;      // of the engine's threads; nothing if the file does not say
  std::vector<std::string> warnings;  // "FILE: line N: what; why"
  std::string left_out;               // at its end, because it is unfinished: a line; or ""
};

// The first thing that is wrong with a trace.
struct Wrong {
  std::uint64_t line = 0;  // 0: the file as a whole
  std::string why;
  std::string_view what_to_try = "the file was changed, or its writer is broken";
};

// Takes the lines of a trace's parts one by one.
class Verifier {
 public:
  Verifier() = default;
  Verifier(const Verifier&) = delete;
  Verifier& operator=(const Verifier&) = delete;

  // Each returns nothing while the trace is right; after an answer, do not call the verifier again.
  // Call begin() for each part, then check() for its other lines, then finish_part().
  std::optional<Wrong> begin(const Meta& meta);
  std::optional<Wrong> check(const Line& line);
  std::optional<Wrong> finish_part();

  // Once the last part is over.
  const TraceSummary& summary() const { return summary_; }
  // Of the part that is over.
  std::vector<std::string> take_warnings();

 private:
  struct AnnouncedStep {
    std::uint64_t step;
    std::uint64_t rows;
    std::uint64_t layers;
  };

  // Each says why the line is wrong, or "".
  std::string check(const Base& base);
  std::string check(const Request& request);
  std::string check(const RequestEnd& end);
  std::string check(const Step& step);
  std::string check(const Route& route);
  std::string check(const Loss& loss) { return sums_.take(loss); }
  std::string check(const Torn& torn) { return sums_.take(torn); }
  std::string check(const Control& control);
  std::string check(const End& end);
  std::string check(const RowsWritten& rows) { return sums_.take(rows); }
  std::string check(const RowRun&) { return "rows are checked one by one"; }
  std::string check(const Unknown&) { return {}; }

  static std::string check_meta(const Meta& meta);
  static std::string check_declared(const Meta& meta);
  std::string check_plain(const Content& content);
  std::string take_event(std::optional<std::uint64_t> event);
  std::string check_step(const Route& route);
  void check_entries(const Route& route);
  Wrong wrong(std::string why) const;

  std::string meta_;  // the line
  std::uint64_t num_layers_ = kMaxLayers;
  std::bitset<kMaxLayers> declared_;  // the layers that may have rows
  TraceSummary summary_;
  std::uint64_t line_ = 1;            // the one being looked at
  std::optional<std::uint64_t> row_;  // of a rows file, after line_; nothing: the line itself

  Warnings warnings_;
  TraceSums sums_;
  LiveRequests requests_{warnings_};
  std::optional<Selection> selection_;
  bool part_expected_ = false;  // its part line comes next
  std::uint64_t part_ = 1;      // the number of this one
  bool part_missing_ = false;   // between this one and the one before
  bool complete_ = true;        // no row was lost or left out so far
  bool opening_ = false;        // after a base or part line only live requests have come
  std::optional<std::uint64_t> first_event_;  // of this file, by its base or part line
  std::optional<std::uint64_t> last_event_;
  std::optional<std::uint64_t> last_step_;
  std::int64_t last_time_ = 0;
  std::optional<std::uint64_t> late_step_;  // was announced before the first line that is known
  std::uint64_t late_rows_ = 0;             // of it, still to come
  std::deque<AnnouncedStep> announced_;     // recording steps from the one whose rows are coming
  std::optional<std::uint64_t> route_step_;
  SeenRows seen_rows_;
  bool ended_ = false;
};

}  // namespace moetrace::trace
