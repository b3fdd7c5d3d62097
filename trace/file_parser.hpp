// Turns the lines of one file into the structs of trace_lines.hpp, and knows what they say
// together: what all readers of traces share, wherever the lines come from.
//
// A trace (schema moetrace/1) begins with its meta line. Any other file is a plain log, of which
// only layer and ids of each row must be there: it may have meta lines anywhere, several or none.
// They must not contradict each other or the rows in model, top_k and the numbers of experts and
// layers; for every other key the first meta line counts.
// Blank lines are skipped, and so is a byte order mark before a line.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string_view>

#include "trace/errors.hpp"
#include "trace/line_parser.hpp"
#include "trace/route_scanner.hpp"
#include "trace/trace_lines.hpp"

namespace moetrace::trace {

class FileParser {
 public:
  // `num_experts`: for files that do not say it.
  explicit FileParser(std::optional<uint32_t> num_experts);

  // kNothing: a blank line or a meta line. kWrong: see error().
  enum class Taken : uint8_t { kContent, kNothing, kWrong };
  // Line `number` of the file, from 1. What `content` points to is valid until the next call, and
  // as long as `line` is. Lines may be taken again, in any order.
  Taken take(std::string_view line, uint64_t number, Content& content);
  // The same for what stands after the last newline; kNothing also if that is not the whole of a
  // JSON object: the line is unfinished, and `unfinished` set.
  Taken take_last(std::string_view line, uint64_t number, Content& content, bool& unfinished);

  // For rows whose lines are missing: what the meta line would have said.
  void begin_without_lines(Meta meta);

  // "at_seq" of the last line other than a row's.
  [[nodiscard]] std::optional<uint64_t> at_seq() const { return parser_.at_seq(); }

  // The message is the "why" alone.
  [[nodiscard]] const Error& error() const { return error_; }

  // A meta line or a row has come, so top_k is known, but for a log whose meta line does not say
  // it.
  [[nodiscard]] bool begun() const { return begun_; }
  // What meta lines and, without one, the rows say so far; its text is that of the first meta line.
  [[nodiscard]] const Meta& meta() const { return meta_; }
  // From meta, else the caller's.
  [[nodiscard]] std::optional<uint32_t> num_experts() const;
  // More than the highest id and layer of all rows, as long as no meta line says how many there
  // are.
  [[nodiscard]] uint32_t experts_seen() const { return experts_seen_; }

  // Rows that came in another way than by lines.
  void note(const RowRun& run);

 private:
  Taken take_other(std::string_view line, uint64_t number, Content& content);
  Taken take_meta(std::string_view line, uint64_t number);
  Taken fail(Error error);
  bool merge(Meta& meta);
  template <class T>
  bool contradicts(const char* key, const std::optional<T>& known, const std::optional<T>& now);
  bool outnumbered(const char* key, std::optional<uint32_t> now, uint32_t seen);
  void note(const Route& route);
  void set_limits();

  std::optional<uint32_t> given_experts_;
  Meta meta_;
  Limits limits_;
  RouteScanner scanner_;
  LineParser parser_;
  Error error_{ErrorCode::kBadLine, {}};
  bool begun_ = false;
  uint32_t experts_seen_ = 0;
  uint32_t layers_seen_ = 0;
  std::set<uint64_t> meta_lines_;  // where a trace's meta line may stand: first, or after a part
};

}  // namespace moetrace::trace
