// The text of a trace's `route` lines, from its rows and its other lines, as the collector writes
// it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "daemon/collector/lines.hpp"
#include "daemon/collector/route_text.hpp"
#include "trace/trace_lines.hpp"

namespace moetrace::cli {

class RouteLines {
 public:
  // `meta`: with num_experts and top_k.
  explicit RouteLines(const trace::Meta& meta);

  // Requests begin and end by their lines, which name them.
  void note(const trace::Content& content);
  // The row's line, with its newline; valid until the next call. The row has `step` and `seq`; its
  // req_id is that of its request.
  std::string_view line(const trace::Route& route);

 private:
  RouteText text_;
  LineBuffer buffer_;
  std::unordered_map<std::uint64_t, std::string> names_;  // of live requests, as JSON
  // Of the row before.
  bool known_ = false;
  RouteOrigin origin_;
  std::optional<std::uint64_t> step_;
  std::string step_text_;
};

}  // namespace moetrace::cli
