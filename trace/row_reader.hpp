// Text of a trace in, columns out: what libmoetrace_reader (reader.h) is made of.
#pragma once

#include <array>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "trace/errors.hpp"
#include "trace/file_parser.hpp"
#include "trace/reader.h"
#include "trace/rows_merge.hpp"
#include "trace/rows_message.hpp"
#include "trace/trace_lines.hpp"

namespace moetrace::trace {

// -1: not known.
struct RequestRecord {
  int64_t number = 0;
  std::optional<std::string> req_id;
  int64_t prompt_tokens = -1;
  int64_t cached_tokens = -1;
  int64_t generated_tokens = -1;
  std::optional<std::string> status;
  int64_t rows = 0;
  int64_t positions = 0;
  moetrace_reader_place first{};
  uint64_t end_byte = 0;
};

class RowReader {
 public:
  // Reads text from its first byte on.
  explicit RowReader(std::optional<uint32_t> num_experts);
  // `meta`: the first line, without its newline. Errors: the message is the "why" alone.
  static Result<RowReader> open(std::string_view meta, std::optional<uint32_t> num_experts);

  // What a read appends to, if anything: at most one of the two.
  struct Wanted {
    moetrace_reader_rows* rows = nullptr;
    int64_t only = MOETRACE_READER_ALL;  // whose rows
    moetrace_reader_lines* lines = nullptr;
  };
  // As moetrace_reader_read and moetrace_reader_read_lines, or with `last` as
  // moetrace_reader_read_last. False: see error(); `place` is at the wrong line.
  bool read(std::string_view text, moetrace_reader_place& place, const Wanted& wanted, bool last);

  // Rows in another file. `byte`: 0, or where a batch begins. A reader without any line takes the
  // file's word for trace and top_k. The error's message is "NAME: why".
  Result<RowsMerge> open_rows(const std::string& name, RowsFile file, uint64_t byte);
  // As moetrace_reader_read_batches: `left` are rows that the caller's arrays had no room for.
  bool read_rows(RowsMerge& from, RowRun& left, const Wanted& wanted, int64_t& passed);

  // As moetrace_reader_read_message.
  bool read_message(std::span<const uint8_t> message, int64_t from_seq, moetrace_reader_rows& rows);

  [[nodiscard]] const std::string& error() const { return error_; }
  [[nodiscard]] const std::string& remedy() const { return remedy_; }
  [[nodiscard]] moetrace_reader_place counted() const { return counted_; }
  [[nodiscard]] uint64_t rows_counted() const { return rows_counted_; }
  [[nodiscard]] moetrace_reader_info info() const;
  [[nodiscard]] const std::deque<RequestRecord>& requests() const { return requests_; }
  [[nodiscard]] const std::string& meta() const { return parser_.meta().text; }
  // Up to the highest id that was seen; empty where no row was.
  [[nodiscard]] const std::vector<int64_t>& counts(uint32_t layer) const { return counts_[layer]; }
  // Empty: none has come.
  [[nodiscard]] const std::string& end() const { return end_; }

 private:
  bool take_line(std::string_view line, const Wanted& wanted);
  // What stands after the last newline; false also if it is unfinished.
  bool take_last(std::string_view line, const Wanted& wanted);
  bool take_content(std::string_view line, const Wanted& wanted);
  // Past the next `bytes`, which hold `lines` newlines.
  void advance(size_t bytes, size_t lines);
  bool take_route(const Route& route, std::string_view line, const Wanted& wanted);
  // Rows of another file, from byte `begin` to `end` of it; of a message: 0.
  void count(const RowRun& run, uint64_t begin, uint64_t end);
  void count_ids(uint16_t layer, std::span<const uint16_t> ids);
  bool append_line(moetrace_reader_lines& lines);
  bool take_request(const Request& line);
  bool take_request_end(const RequestEnd& line);
  bool fail(const Error& error);

  // The request that a line is about; null: none. Makes a record of one that is new.
  RequestRecord* request_of(std::optional<uint64_t> given, std::optional<std::string_view> req_id);
  RequestRecord& by_number(int64_t number, std::optional<std::string_view> req_id);
  RequestRecord& by_name(std::string_view req_id);

  FileParser parser_;
  Content content_;
  std::string error_;
  std::string remedy_;

  moetrace_reader_place here_{};     // the line being read
  moetrace_reader_place counted_{};  // up to here, lines are in what follows
  std::deque<RequestRecord> requests_;
  std::unordered_map<int64_t, RequestRecord*> numbers_;
  std::map<std::string, RequestRecord*, std::less<>> names_;  // of a plain log
  std::array<RequestRecord*, 1024> recent_{};                 // by the number's last bits
  std::array<std::vector<int64_t>, kMaxLayers> counts_;
  uint32_t layers_seen_ = 0;  // one more than the highest layer
  std::string end_;

  std::optional<Base> base_;
  std::optional<RowsWritten> written_;  // the last one
  bool without_lines_ = false;
  uint64_t rows_counted_ = 0;  // bytes of the rows file that are in what is above
  RowsMessage message_;
};

}  // namespace moetrace::trace
