#include "plotter/reader.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <string>

#include "plotter/row_reader.hpp"

namespace {

using moetrace::trace::RowReader;

constexpr const char* kNoMemory = "out of memory";

}  // namespace

struct moetrace_reader {
  RowReader rows;
  bool failed = false;  // for want of memory
};

moetrace_reader* moetrace_reader_open(const char* meta, size_t meta_bytes, uint32_t num_experts,
                                      char* why, size_t why_bytes) try {
  const auto given = num_experts == 0 ? std::nullopt : std::optional(num_experts);
  auto rows = RowReader::open({meta, meta_bytes}, given);
  if (rows) return new moetrace_reader{std::move(*rows)};
  std::snprintf(why, why_bytes, "line 1: %s", rows.error().message.c_str());
  return nullptr;
} catch (const std::exception&) {
  std::snprintf(why, why_bytes, "%s", kNoMemory);
  return nullptr;
}

void moetrace_reader_close(moetrace_reader* reader) {
  delete reader;
}

int64_t moetrace_reader_read(moetrace_reader* reader, const char* text, size_t bytes,
                             moetrace_reader_place* place, moetrace_reader_rows* rows,
                             int64_t only) try {
  const uint64_t begin = place->byte;
  reader->failed = false;
  if (!reader->rows.read({text, bytes}, *place, rows, only)) return -1;
  return static_cast<int64_t>(place->byte - begin);
} catch (const std::exception&) {
  reader->failed = true;
  return -1;
}

const char* moetrace_reader_error(const moetrace_reader* reader) {
  return reader->failed ? kNoMemory : reader->rows.error().c_str();
}

moetrace_reader_place moetrace_reader_counted(const moetrace_reader* reader) {
  return reader->rows.counted();
}

void moetrace_reader_get_info(const moetrace_reader* reader, moetrace_reader_info* info) {
  const moetrace_reader_info all = reader->rows.info();
  const size_t size = std::min(info->size, sizeof all);
  std::memcpy(info, &all, size);
  info->size = size;
}

int moetrace_reader_get_request(const moetrace_reader* reader, uint64_t index,
                                moetrace_reader_request* request) {
  const auto& requests = reader->rows.requests();
  if (index >= requests.size()) return 0;
  const auto& of = requests[index];
  const size_t size = std::min(request->size, sizeof(moetrace_reader_request));
  const moetrace_reader_request all = {.size = size,
                                       .number = of.number,
                                       .req_id = of.req_id ? of.req_id->data() : nullptr,
                                       .req_id_bytes = of.req_id ? of.req_id->size() : 0,
                                       .prompt_tokens = of.prompt_tokens,
                                       .cached_tokens = of.cached_tokens,
                                       .generated_tokens = of.generated_tokens,
                                       .status = of.status ? of.status->data() : nullptr,
                                       .status_bytes = of.status ? of.status->size() : 0,
                                       .rows = of.rows,
                                       .positions = of.positions,
                                       .first = of.first,
                                       .end_byte = of.end_byte};
  std::memcpy(request, &all, size);
  return 1;
}

int moetrace_reader_get_counts(const moetrace_reader* reader, uint32_t layer, int64_t* counts) {
  if (layer >= moetrace::trace::kMaxLayers) return 0;
  const auto& of = reader->rows.counts(layer);
  std::ranges::copy(of, counts);
  return of.empty() ? 0 : 1;
}

const char* moetrace_reader_end(const moetrace_reader* reader, size_t* bytes) {
  const std::string& end = reader->rows.end();
  *bytes = end.size();
  return end.empty() ? nullptr : end.data();
}
