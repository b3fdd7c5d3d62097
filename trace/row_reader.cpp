#include "trace/row_reader.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "trace/json_cursor.hpp"
#include "trace/line_columns.hpp"
#include "trace/row_columns.hpp"
#include "trace/trace_reader.hpp"

namespace moetrace::trace {
namespace {

// One less than an int64 holds, so that a count of positions fits, too.
constexpr uint64_t kMostInColumn = std::numeric_limits<int64_t>::max() - 1;
const Error kTooLarge{ErrorCode::kBadLine, "a number is 2^63 - 1 or larger"};

int64_t column(const std::optional<uint64_t>& value) {
  return value ? static_cast<int64_t>(*value) : -1;
}

bool fits(const std::optional<uint64_t>& value) {
  return !value || *value <= kMostInColumn;
}

}  // namespace

RowReader::RowReader(std::optional<uint32_t> num_experts)
    : parser_(num_experts), counted_{.byte = 0, .line = 1} {}

Result<RowReader> RowReader::open(std::string_view text, std::optional<uint32_t> num_experts) {
  RowReader reader(num_experts);
  const bool wrong = reader.parser_.take(text, 1, reader.content_) == FileParser::Taken::kWrong;
  if (wrong && reader.parser_.error().code != ErrorCode::kNoMeta) return reader.parser_.error();
  if (reader.meta().empty()) return Error{ErrorCode::kNoMeta, "not a meta line"};
  reader.counted_ = {.byte = text.size() + 1, .line = 2};
  return reader;
}

moetrace_reader_info RowReader::info() const {
  const Meta& meta = parser_.meta();
  uint32_t layers = layers_seen_;
  for (const uint16_t layer : meta.layers_logged) layers = std::max<uint32_t>(layers, layer + 1U);
  return {.size = sizeof(moetrace_reader_info),
          .top_k = meta.top_k,
          .num_experts = parser_.num_experts().value_or(0),
          .num_layers = meta.num_layers.value_or(layers),
          .plain = meta.plain() ? 1U : 0U,
          .requests = requests_.size()};
}

// What is wrong with the line here.
bool RowReader::fail(const Error& error) {
  error_ = error.code == ErrorCode::kNoMeta
               ? "not a trace: " + error.message
               : "line " + std::to_string(here_.line) + ": " + error.message;
  remedy_ = error.remedy;
  if (remedy_.empty() && error.code == ErrorCode::kNoMeta) remedy_ = what_to_try(error);
  return false;
}

void RowReader::advance(size_t bytes, size_t lines) {
  const uint64_t after = here_.byte + bytes;
  // A line whose newline was still to come is counted already: then its rest is blank.
  const bool counts = here_.byte <= counted_.byte && counted_.byte < after;
  here_ = {.byte = after, .line = here_.line + lines};
  if (counts) counted_ = here_;
}

bool RowReader::read(std::string_view text, moetrace_reader_place& place, const Wanted& wanted,
                     bool last) {
  const moetrace_reader_rows* const rows = wanted.rows;
  const moetrace_reader_lines* const lines = wanted.lines;
  error_.clear();
  remedy_.clear();
  here_ = place;
  // Without top_k the size of a row is not known.
  if (rows != nullptr && parser_.meta().top_k == 0) return true;
  while (!text.empty() && (rows == nullptr || rows->count < rows->capacity) &&
         (lines == nullptr || lines->count < lines->capacity)) {
    const size_t newline = text.find('\n');
    const size_t length = std::min(newline, text.size());
    if (length > kMaxLineBytes) {
      const std::string why = "longer than " + std::to_string(kMaxLineBytes >> 20) +
                              " MiB, the most that a line of a trace may have";
      return parser_.begun()
                 ? fail({ErrorCode::kTooLong, why, "give a file with one JSON object a line"})
                 : fail({ErrorCode::kNoMeta, "its first line is " + why});
    }
    if (newline == std::string_view::npos && !last) break;
    const std::string_view line = text.substr(0, length);
    if (newline == std::string_view::npos) {
      if (take_last(line, wanted)) advance(length, 0);
      place = here_;
      return error_.empty();
    }
    if (!take_line(line, wanted)) return false;
    advance(length + 1, 1);
    text.remove_prefix(length + 1);
    place = here_;
  }
  return true;
}

bool RowReader::take_line(std::string_view line, const Wanted& wanted) {
  switch (parser_.take(line, here_.line, content_)) {
    case FileParser::Taken::kWrong:
      return fail(parser_.error());
    case FileParser::Taken::kNothing:
      return true;
    case FileParser::Taken::kContent:
      break;
  }
  return take_content(line, wanted);
}

bool RowReader::take_last(std::string_view line, const Wanted& wanted) {
  bool unfinished = false;
  const FileParser::Taken taken = parser_.take_last(line, here_.line, content_, unfinished);
  if (taken == FileParser::Taken::kWrong) return fail(parser_.error());
  if (taken == FileParser::Taken::kNothing) return !unfinished && !is_blank_text(line);
  return take_content(line, wanted);
}

bool RowReader::take_content(std::string_view line, const Wanted& wanted) {
  if (const auto* route = std::get_if<Route>(&content_)) return take_route(*route, line, wanted);
  if (wanted.lines != nullptr && (kind_of(content_) & wanted.lines->kinds) != 0) {
    if (!append_line(*wanted.lines)) return false;
  }
  if (const auto* request = std::get_if<Request>(&content_)) return take_request(*request);
  if (const auto* ended = std::get_if<RequestEnd>(&content_)) return take_request_end(*ended);
  if (std::holds_alternative<End>(content_)) end_ = line;
  if (const auto* base = std::get_if<Base>(&content_)) base_ = *base;
  if (const auto* written = std::get_if<RowsWritten>(&content_)) {
    if (!written_ || written->seq > written_->seq) written_ = *written;
  }
  return true;
}

// The caller's line may be longer or shorter than ours.
bool RowReader::append_line(moetrace_reader_lines& lines) {
  moetrace_reader_line line;
  if (!fill_line(content_, here_, line))
    return fail({ErrorCode::kBadLine, "a number is 2^63 or larger"});
  char* const to = reinterpret_cast<char*>(lines.lines) + lines.count * lines.line_size;
  std::memcpy(to, &line, std::min(lines.line_size, sizeof line));
  ++lines.count;
  return true;
}

bool RowReader::take_route(const Route& route, std::string_view line, const Wanted& wanted) {
  if (!fits(route.token_idx) || !fits(route.request) || !fits(route.step) || !fits(route.seq)) {
    return fail(kTooLarge);
  }
  RequestRecord* const request = request_of(route.request, route.req_id);
  const int64_t number = request == nullptr ? -1 : request->number;
  if (here_.byte == counted_.byte) {
    layers_seen_ = std::max<uint32_t>(layers_seen_, route.layer + 1U);
    if (request != nullptr) {
      if (request->rows++ == 0) request->first = here_;
      request->end_byte = here_.byte + line.size() + 1;
      request->positions = std::max(request->positions, column(route.token_idx) + 1);
    }
    count_ids(route.layer, route.expert_ids);
  }
  moetrace_reader_rows* const rows = wanted.rows;
  if (rows == nullptr || (wanted.only != MOETRACE_READER_ALL && wanted.only != number)) return true;
  const size_t row = rows->count++;
  rows->request[row] = number;
  rows->step[row] = column(route.step);
  rows->token_idx[row] = column(route.token_idx);
  rows->seq[row] = column(route.seq);
  rows->layer[row] = static_cast<int16_t>(route.layer);
  const size_t top_k = parser_.meta().top_k;
  int32_t* const ids = rows->ids + row * top_k;
  float* const weights = rows->weights + row * top_k;
  const size_t entries = route.expert_ids.size();
  for (size_t k = 0; k < entries; ++k) {
    ids[k] = route.expert_ids[k] == kNoExpert ? -1 : route.expert_ids[k];
  }
  std::memcpy(weights, route.weights.data(), entries * sizeof(float));
  // The layer has a smaller top-k.
  std::fill(ids + entries, ids + top_k, -1);
  std::fill(weights + entries, weights + top_k, std::numeric_limits<float>::quiet_NaN());
  return true;
}

void RowReader::count_ids(uint16_t layer, std::span<const uint16_t> ids) {
  std::vector<int64_t>& counts = counts_[layer];
  for (const uint16_t id : ids) {
    if (id >= counts.size()) {
      if (id == kNoExpert) continue;
      counts.resize(id + size_t{1});
    }
    ++counts[id];
  }
}

Result<RowsMerge> RowReader::open_rows(const std::string& name, RowsFile file, uint64_t byte) {
  without_lines_ = without_lines_ || !parser_.begun();
  const Meta& meta = parser_.meta();
  if (!without_lines_ && !meta.rows) {
    return Error{ErrorCode::kMismatch,
                 name + ": the meta line says nothing of rows in another file"};
  }
  RowsMerge rows = without_lines_ ? RowsMerge(name, std::move(file))
                                  : RowsMerge(name, std::move(file), written_);
  if (without_lines_) {
    auto known = rows.meta_without_lines();
    if (!known) return known.error();
    if (!parser_.begun()) parser_.begin_without_lines(std::move(*known));
  } else if (const auto fits = rows.check(meta); !fits) {
    return fits.error();
  }
  if (base_) rows.begin(*base_);
  rows.set_limits(rows_limits(meta, parser_.num_experts()));
  if (const auto started = rows.start_at(byte); !started) return started.error();
  if (rows_counted_ == 0) rows_counted_ = byte == 0 ? rows.offset() : 0;
  return rows;
}

bool RowReader::read_rows(RowsMerge& from, RowRun& left, const Wanted& wanted, int64_t& passed) {
  moetrace_reader_rows* const rows = wanted.rows;
  error_.clear();
  remedy_.clear();
  passed = 0;
  while (rows == nullptr || rows->count < rows->capacity) {
    if (left.size() == 0) {
      const auto run = from.next(std::numeric_limits<uint64_t>::max());
      if (!run) {
        error_ = run.error().message;
        remedy_ = what_to_try(run.error());
        return false;
      }
      if (!*run) return true;
      left = **run;
      const RowsBatch& batch = from.batch();
      if (batch.begin_byte == rows_counted_) {
        rows_counted_ = batch.end_byte;
        count(batch.rows, batch.begin_byte, batch.end_byte);
      }
    }
    size_t taken = left.size();
    if (rows != nullptr && wanted.only == MOETRACE_READER_ALL) {
      taken = std::min(taken, rows->capacity - rows->count);
      append_rows(left.part(0, taken), *rows);
    } else if (rows != nullptr) {
      for (taken = 0; taken < left.size() && rows->count < rows->capacity; ++taken) {
        if (left.request[taken] == wanted.only) append_rows(left.part(taken, 1), *rows);
      }
    }
    passed += static_cast<int64_t>(taken);
    left = left.part(taken, left.size() - taken);
  }
  return true;
}

bool RowReader::read_message(std::span<const uint8_t> message, int64_t from_seq,
                             moetrace_reader_rows& rows) {
  const Meta& meta = parser_.meta();
  remedy_.clear();
  const auto all = message_.read(message, meta, rows_limits(meta, parser_.num_experts()));
  error_ = all ? std::string() : all.error().message;
  if (!all) return false;
  size_t first = 0;
  while (first < all->size() && all->seq[first] < from_seq) ++first;
  const RowRun run = all->part(first, all->size() - first);
  if (run.size() > rows.capacity - rows.count) {
    error_ = "it has " + std::to_string(all->size()) + " rows, more than its header says";
    return false;
  }
  if (run.size() == 0) return true;
  append_rows(run, rows);
  count(run, 0, 0);
  return true;
}

void RowReader::count(const RowRun& run, uint64_t begin, uint64_t end) {
  const size_t top_k = run.expert_ids.size() / run.size();
  for (size_t first = 0, last = 0; first < run.size(); first = last) {
    const uint16_t layer = run.layer[first];
    while (last < run.size() && run.layer[last] == layer) ++last;
    layers_seen_ = std::max<uint32_t>(layers_seen_, layer + 1U);
    count_ids(layer, run.expert_ids.subspan(first * top_k, (last - first) * top_k));
  }
  for (size_t first = 0, last = 0; first < run.size(); first = last) {
    const int64_t number = run.request[first];
    int64_t positions = 0;
    for (; last < run.size() && run.request[last] == number; ++last) {
      positions = std::max(positions, run.token_idx[last] + 1);
    }
    if (number < 0) continue;
    RequestRecord& request = *request_of(static_cast<uint64_t>(number), std::nullopt);
    if (request.rows == 0) request.first = {.byte = begin, .line = 0};
    request.rows += static_cast<int64_t>(last - first);
    request.end_byte = end;
    request.positions = std::max(request.positions, positions);
  }
  parser_.note(run);
}

// A plain log has names only; in a trace the number counts, because a name may come again.
RequestRecord* RowReader::request_of(std::optional<uint64_t> given,
                                     std::optional<std::string_view> req_id) {
  if (parser_.meta().plain()) return req_id ? &by_name(*req_id) : nullptr;
  if (!given) return nullptr;
  const auto number = static_cast<int64_t>(*given);
  RequestRecord*& recent = recent_[static_cast<size_t>(number) % recent_.size()];
  if (recent == nullptr || recent->number != number) recent = &by_number(number, req_id);
  return recent;
}

RequestRecord& RowReader::by_number(int64_t number, std::optional<std::string_view> req_id) {
  RequestRecord*& found = numbers_[number];
  if (found == nullptr) {
    found = &requests_.emplace_back();
    found->number = number;
    if (req_id) found->req_id = *req_id;
  }
  return *found;
}

RequestRecord& RowReader::by_name(std::string_view req_id) {
  const auto known = names_.find(req_id);
  if (known != names_.end()) return *known->second;
  RequestRecord& made = requests_.emplace_back();
  made.number = static_cast<int64_t>(requests_.size() - 1);
  made.req_id = req_id;
  names_.emplace(req_id, &made);
  return made;
}

bool RowReader::take_request(const Request& line) {
  if (!fits(line.request) || !fits(line.prompt_tokens) || !fits(line.cached_tokens)) {
    return fail(kTooLarge);
  }
  if (RequestRecord* const request = request_of(line.request, line.req_id)) {
    request->prompt_tokens = column(line.prompt_tokens);
    request->cached_tokens = column(line.cached_tokens);
    // Live rows may come before the line.
    if (line.req_id && !request->req_id) request->req_id = *line.req_id;
  }
  return true;
}

bool RowReader::take_request_end(const RequestEnd& line) {
  if (!fits(line.request) || !fits(line.generated_tokens)) return fail(kTooLarge);
  if (RequestRecord* const request = request_of(line.request, line.req_id)) {
    request->generated_tokens = column(line.generated_tokens);
    if (line.status) request->status = *line.status;
  }
  return true;
}

}  // namespace moetrace::trace
