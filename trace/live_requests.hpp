// The requests of a trace: which are live, whether a row can be theirs, how they end.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>

#include "trace/trace_lines.hpp"
#include "trace/warnings.hpp"

namespace moetrace::trace {

class LiveRequests {
 public:
  explicit LiveRequests(Warnings& warnings) : warnings_(warnings) {}

  void at_line(std::uint64_t line) { line_ = line; }
  // A file begins, and requests are live already. `known`: the part before was read, and so were
  // their lines.
  void begin_late(bool known);

  // Each says why the line is wrong, or "".
  std::string begin(const Request& request);
  std::string end(const RequestEnd& end);
  std::string take(const Route& route);

  // The trace has ended. `closed`: by its engine. `complete`: it has all rows of all passes.
  void finish(bool closed, bool complete);

  std::uint64_t begun() const { return begun_; }

 private:
  struct Live {
    std::optional<std::string> id;
    std::optional<std::uint64_t> prompt_tokens;
    std::optional<std::uint64_t> cached_tokens;
    std::optional<std::uint64_t> last_position;  // the highest one of its rows
    std::uint64_t named_in = 1;                  // the last file that has a request line of it
    bool whole = true;  // it began in a file that was read, and all its rows have a position
  };

  std::string continue_live(const Request& request);
  void compare_rows(const RequestEnd& end, const Live& request);

  Warnings& warnings_;
  std::uint64_t line_ = 1;
  std::uint64_t file_ = 1;
  std::uint64_t begun_ = 0;
  bool late_ = false;    // requests may be live that no line names
  bool joined_ = false;  // requests without an event number are known already
  std::optional<std::uint64_t> last_number_;
  std::unordered_map<std::uint64_t, Live> live_;
  bool nameless_rows_ = false;

  // Requests with fewer rows than tokens: wrong only if the trace is complete.
  std::uint64_t short_ = 0;
  std::uint64_t short_line_ = 0;
  std::string short_text_;
};

}  // namespace moetrace::trace
