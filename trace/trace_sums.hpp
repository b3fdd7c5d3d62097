// The numbers of a trace file: sequence, totals and conservation.
//
//   attempted = delivered + filtered + dropped + torn
//
// for the whole file, and at each step line: every number between the first route and the step's
// `seq` was delivered, filtered or torn.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "trace/trace_lines.hpp"

namespace moetrace::trace {

// "\"key\" is 3, but the lines before it make 4"
std::string not_equal(const char* key, std::uint64_t found, std::uint64_t expected);

class TraceSums {
 public:
  // The number of the line that the next calls are about.
  void at_line(std::uint64_t line) { line_ = line; }
  // The line that the last answer blames; 0: the current one.
  std::uint64_t wrong_line() const { return wrong_line_; }

  // Each says why the line is wrong, or "".
  std::string start(const Base& base);  // no earlier part of the trace was seen
  std::string go_on(const Base& part);  // after the end line of the part before it
  std::string take(const Step& step);
  std::string take_route(std::uint64_t seq);
  std::string take(const Loss& loss);
  std::string take(const Torn& torn);
  std::string take(const End& end);
  // Stands after all rows below its `seq`.
  std::string take(const RowsWritten& rows) const;

  // Announced rows of this file that are still to come.
  std::uint64_t open() const { return announced() - delivered_ - gaps_ - dropped_ - torn_; }
  bool complete() const { return dropped_ == 0 && torn_ == 0 && gaps_ == 0; }

 private:
  std::string advance_to(std::uint64_t seq);
  std::string check_room() const;
  std::string check_gaps(std::uint64_t filtered, bool exactly);
  std::string check_totals(const Totals& now, std::uint64_t filtered);
  void begin_file(const Base& base);
  std::uint64_t announced() const { return base_.open + announced_rows_ + event_lost_; }

  std::uint64_t line_ = 1;
  std::uint64_t wrong_line_ = 0;
  Base base_ = {.part = {},
                .seq = 0,
                .event = 0,
                .step = {},
                .open = 0,
                .totals = {.attempted = 0,
                           .delivered = 0,
                           .filtered = 0,
                           .dropped = 0,
                           .torn = 0,
                           .event_lost = 0}};  // where this file starts

  std::uint64_t next_seq_ = 0;
  std::uint64_t gaps_ = 0;  // numbers passed over without a torn line: only a filter may do that
  std::uint64_t first_gap_line_ = 0;  // since the last step line; 0: none
  std::uint64_t first_gap_seq_ = 0;
  std::uint64_t announced_rows_ = 0;  // rows x layers of all step lines
  std::uint64_t event_lost_ = 0;
  std::uint64_t delivered_ = 0;
  std::uint64_t dropped_ = 0;
  std::uint64_t torn_ = 0;
  std::uint64_t filtered_ = 0;  // once the end line has said it
};

}  // namespace moetrace::trace
