// The short way through a route line that is written as the collector (or a plain log) writes it.
//
// Nearly every line of a trace is one. What looks different in any way (other keys, another order,
// escapes, nulls, anything wrong) goes the general way, through LineParser, which also knows what
// to say about errors. Both ways give the same for every line that this one takes; the fuzzer holds
// them to it.
#pragma once

#include <array>
#include <string_view>

#include "trace/line_parser.hpp"
#include "trace/trace_lines.hpp"

namespace moetrace::trace {

class RouteScanner {
 public:
  explicit RouteScanner(const Limits& limits) : limits_(limits) {}

  void set_limits(const Limits& limits) { limits_ = limits; }

  // False: not that form, and `route` is unspecified. What `route` points to is valid until the
  // next call, and as long as `line` is.
  bool scan(std::string_view line, Route& route);

 private:
  Limits limits_;
  std::array<uint16_t, kMaxTopK> ids_{};
  std::array<float, kMaxTopK> weights_{};
};

}  // namespace moetrace::trace
