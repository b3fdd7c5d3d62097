// Checks that a trace file tells the truth about itself: schema, sequence, and conservation.
//
//   attempted = delivered + filtered + dropped + torn
//
// for the whole file, and at each step line: every number between the first route and the step's
// `seq` was delivered, filtered or torn. Memory: the live requests, the rows of one step, and
// announced steps of which no row has come yet.
#pragma once

#include <bitset>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "daemon/cli/outcome.hpp"
#include "daemon/cli/step_rows.hpp"
#include "plotter/trace_lines.hpp"

namespace moetrace::cli {

// What a good file holds.
struct TraceSummary {
  bool plain = false;  // the public format: no numbers or totals that could be checked
  std::uint64_t rows = 0;
  std::uint64_t steps = 0;
  std::uint64_t requests = 0;
  std::bitset<trace::kMaxLayers> layers;  // in which there are rows
  // For plain files only `rows` is known.
  std::uint64_t attempted = 0;
  std::uint64_t filtered = 0;
  std::uint64_t dropped = 0;
  std::uint64_t torn = 0;
  std::string status;             // "closed", "producer died"
  std::optional<double> cost_ns;  // of the engine's threads; nothing if the file does not say
  std::string left_out;           // at its end, because it is unfinished: a line; "": nothing
};

// The first thing that is wrong with a trace.
struct Wrong {
  std::uint64_t line = 0;  // 0: the file as a whole
  std::string why;
};

// Takes the lines other than meta one by one.
class Verifier {
 public:
  // `meta` is that of the reader, to which later lines may add.
  explicit Verifier(const trace::Meta& meta);

  // Nothing as long as all is well. After an answer the verifier is spent.
  std::optional<Wrong> check(const trace::Line& line);
  // After the last line.
  std::optional<Wrong> finish() const;

  const TraceSummary& summary() const { return summary_; }

 private:
  struct AnnouncedStep {
    std::uint64_t step;
    std::uint64_t rows;
    std::uint64_t layers;
  };

  // Each says why the line is wrong, or "".
  std::string check(const trace::Base& base);
  std::string check(const trace::Request& request);
  std::string check(const trace::RequestEnd& end);
  std::string check(const trace::Step& step);
  std::string check(const trace::Route& route);
  std::string check(const trace::Loss& loss);
  std::string check(const trace::Torn& torn);
  std::string check(const trace::Control& control);
  std::string check(const trace::End& end);
  std::string check(const trace::Unknown&) { return {}; }

  std::string check_plain(const trace::Content& content);
  std::string take_event(std::optional<std::uint64_t> event);
  std::string advance_to(std::uint64_t seq);
  std::string check_gaps(std::uint64_t filtered, bool exactly);
  std::string check_totals(const trace::Step& step);
  std::string check_request(const trace::Route& route) const;
  std::string check_step(const trace::Route& route);
  std::string check_cost();

  const trace::Meta& meta_;
  std::uint64_t num_layers_;
  TraceSummary summary_;
  std::uint64_t line_ = 1;  // the one being looked at
  std::string_view text_;   // of it

  std::optional<trace::Base> base_;
  std::optional<std::uint64_t> last_event_;
  std::optional<std::uint64_t> last_step_;
  std::optional<std::uint64_t> last_request_;
  std::unordered_map<std::uint64_t, std::optional<std::string>> live_;  // number -> id
  std::deque<AnnouncedStep> announced_;  // recording steps from the one whose rows are coming
  std::optional<std::uint64_t> route_step_;
  StepRows step_rows_;
  std::uint64_t open_left_ = 0;  // of base's open records

  std::uint64_t next_seq_ = 0;
  std::uint64_t gaps_ = 0;  // numbers passed over without a torn line: only a filter may do that
  std::uint64_t first_gap_line_ = 0;  // since the last step line; 0: none
  std::uint64_t first_gap_seq_ = 0;
  std::uint64_t wrong_line_ = 0;      // 0: line_
  std::uint64_t announced_rows_ = 0;  // rows x layers of all step lines
  std::uint64_t event_lost_ = 0;
  bool ended_ = false;
};

// Reads and checks a whole file. The error is "FILE: line N: why; what to try".
boost::system::result<TraceSummary, Failure> verify_trace(const std::string& path);

}  // namespace moetrace::cli
