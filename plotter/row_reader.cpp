#include "plotter/row_reader.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "plotter/meta_parser.hpp"
#include "plotter/trace_reader.hpp"

namespace moetrace::trace {
namespace {

// One less than an int64 holds, so that a count of positions fits, too.
constexpr uint64_t kMostInColumn = std::numeric_limits<int64_t>::max() - 1;
constexpr const char* kTooLarge = "a number is 2^63 - 1 or larger";

int64_t column(const std::optional<uint64_t>& value) {
  return value ? static_cast<int64_t>(*value) : -1;
}

bool fits(const std::optional<uint64_t>& value) {
  return !value || *value <= kMostInColumn;
}

}  // namespace

Result<RowReader> RowReader::open(std::string_view text, std::optional<uint32_t> given) {
  auto meta = parse_meta(text);
  if (!meta) return meta.error();
  if (given && meta->num_experts && *given != *meta->num_experts) {
    return Error{ErrorCode::kMismatch, "the trace has " + std::to_string(*meta->num_experts) +
                                           " experts, not " + std::to_string(*given)};
  }
  const std::optional<uint32_t> experts = meta->num_experts ? meta->num_experts : given;
  return RowReader(std::move(*meta), experts, text.size());
}

RowReader::RowReader(Meta meta, std::optional<uint32_t> num_experts, size_t meta_bytes)
    : meta_(std::move(meta)),
      num_experts_(num_experts),
      limits_{.top_k = meta_.top_k,
              .num_experts = num_experts.value_or(kMaxExperts),
              .num_layers = meta_.num_layers.value_or(kMaxLayers),
              .plain = meta_.plain(),
              .experts_given = num_experts && !meta_.num_experts},
      scanner_(limits_),
      parser_(limits_),
      counted_{.byte = meta_bytes + 1, .line = 2} {
  for (const uint16_t layer : meta_.layers_logged) {
    layers_seen_ = std::max<uint32_t>(layers_seen_, layer + 1U);
  }
}

moetrace_reader_info RowReader::info() const {
  return {.size = sizeof(moetrace_reader_info),
          .top_k = meta_.top_k,
          .num_experts = num_experts_.value_or(0),
          .num_layers = meta_.num_layers.value_or(layers_seen_),
          .plain = meta_.plain() ? 1U : 0U,
          .requests = requests_.size()};
}

bool RowReader::fail(const std::string& why) {
  error_ = "line " + std::to_string(here_.line) + ": " + why;
  return false;
}

bool RowReader::read(std::string_view text, moetrace_reader_place& place,
                     moetrace_reader_rows* rows, int64_t only) {
  error_.clear();
  here_ = place;
  while (rows == nullptr || rows->count < rows->capacity) {
    const size_t newline = text.find('\n');
    if (std::min(newline, text.size()) > kMaxLineBytes) {
      return fail("longer than " + std::to_string(kMaxLineBytes >> 20) + " MiB, no trace");
    }
    if (newline == std::string_view::npos) break;
    if (!take_line(text.substr(0, newline), rows, only)) return false;
    text.remove_prefix(newline + 1);
    const bool counts = here_.byte == counted_.byte;
    here_.byte += newline + 1;
    ++here_.line;
    if (counts) counted_ = here_;
    place = here_;
  }
  return true;
}

// The short way for nearly all lines, the general way for the rest.
bool RowReader::take_line(std::string_view line, moetrace_reader_rows* rows, int64_t only) {
  auto* route = std::get_if<Route>(&content_);
  if (route == nullptr) route = &content_.emplace<Route>();
  if (scanner_.scan(line, *route)) return take_route(*route, line, rows, only);
  if (!parser_.parse(line, content_)) return fail(parser_.error().message);
  if (const auto* general = std::get_if<Route>(&content_)) {
    return take_route(*general, line, rows, only);
  }
  if (const auto* request = std::get_if<Request>(&content_)) {
    return take_request(*request);
  }
  if (const auto* ended = std::get_if<RequestEnd>(&content_)) {
    return take_request_end(*ended);
  }
  if (std::holds_alternative<End>(content_)) end_ = line;
  return true;
}

bool RowReader::take_route(const Route& route, std::string_view line, moetrace_reader_rows* rows,
                           int64_t only) {
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
    if (num_experts_) {
      std::vector<int64_t>& counts = counts_[route.layer];
      if (counts.empty()) counts.resize(*num_experts_);
      for (const uint16_t id : route.expert_ids) {
        if (id != kNoExpert) ++counts[id];
      }
    }
  }
  if (rows == nullptr || (only != MOETRACE_READER_ALL && only != number)) return true;
  const size_t row = rows->count++;
  rows->request[row] = number;
  rows->step[row] = column(route.step);
  rows->token_idx[row] = column(route.token_idx);
  rows->seq[row] = column(route.seq);
  rows->layer[row] = static_cast<int16_t>(route.layer);
  int32_t* const ids = rows->ids + row * limits_.top_k;
  for (uint32_t k = 0; k < limits_.top_k; ++k) {
    ids[k] = route.expert_ids[k] == kNoExpert ? -1 : route.expert_ids[k];
  }
  std::memcpy(rows->weights + row * limits_.top_k, route.weights.data(),
              limits_.top_k * sizeof(float));
  return true;
}

// A plain log has names only; in a trace the number counts, because a name may come again.
RequestRecord* RowReader::request_of(std::optional<uint64_t> given,
                                     std::optional<std::string_view> req_id) {
  if (limits_.plain) return req_id ? &by_name(*req_id) : nullptr;
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
