#include "trace/reader.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <string>

#include "trace/byte_source.hpp"
#include "trace/row_reader.hpp"

namespace {

using moetrace::trace::ByteSource;
using moetrace::trace::RowReader;

constexpr const char* kNoMemory = "out of memory";

std::optional<uint32_t> known(uint32_t num_experts) {
  return num_experts == 0 ? std::nullopt : std::optional(num_experts);
}

}  // namespace

struct moetrace_reader {
  RowReader rows;
  bool failed = false;  // for want of memory
};

struct moetrace_reader_batches {
  moetrace::trace::RowsMerge rows;
  moetrace::trace::RowRun left;  // read and not yet given
};

struct moetrace_reader_unpacked {
  ByteSource bytes;
  std::string error;
};

namespace {

int64_t read(moetrace_reader* reader, std::string_view text, moetrace_reader_place* place,
             const RowReader::Wanted& wanted, bool last) try {
  const uint64_t begin = place->byte;
  reader->failed = false;
  if (!reader->rows.read(text, *place, wanted, last)) return -1;
  return static_cast<int64_t>(place->byte - begin);
} catch (const std::exception&) {
  reader->failed = true;
  return -1;
}

}  // namespace

moetrace_reader* moetrace_reader_begin(uint32_t num_experts) try {
  return new moetrace_reader{RowReader(known(num_experts))};
} catch (const std::exception&) {
  return nullptr;
}

moetrace_reader* moetrace_reader_open(const char* meta, size_t meta_bytes, uint32_t num_experts,
                                      char* why, size_t why_bytes) try {
  auto rows = RowReader::open({meta, meta_bytes}, known(num_experts));
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
                             int64_t only) {
  return read(reader, {text, bytes}, place, {.rows = rows, .only = only}, false);
}

int64_t moetrace_reader_read_last(moetrace_reader* reader, const char* text, size_t bytes,
                                  moetrace_reader_place* place, moetrace_reader_rows* rows,
                                  int64_t only) {
  return read(reader, {text, bytes}, place, {.rows = rows, .only = only}, true);
}

int64_t moetrace_reader_read_lines(moetrace_reader* reader, const char* text, size_t bytes,
                                   moetrace_reader_place* place, moetrace_reader_lines* lines,
                                   int last) {
  return read(reader, {text, bytes}, place, {.lines = lines}, last != 0);
}

const char* moetrace_reader_error(const moetrace_reader* reader) {
  return reader->failed ? kNoMemory : reader->rows.error().c_str();
}

const char* moetrace_reader_what_to_try(const moetrace_reader* reader) {
  return reader->failed ? "" : reader->rows.remedy().c_str();
}

const char* moetrace_reader_meta(const moetrace_reader* reader, size_t* bytes) {
  const std::string& meta = reader->rows.meta();
  *bytes = meta.size();
  return meta.empty() ? nullptr : meta.data();
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
  const uint32_t experts = reader->rows.info().num_experts;
  if (of.empty() || experts == 0) return 0;
  std::ranges::fill(std::ranges::copy(of, counts).out, counts + experts, 0);
  return 1;
}

const char* moetrace_reader_end(const moetrace_reader* reader, size_t* bytes) {
  const std::string& end = reader->rows.end();
  *bytes = end.size();
  return end.empty() ? nullptr : end.data();
}

int moetrace_reader_is_batches(const char* first, size_t bytes) {
  const auto* const begin = reinterpret_cast<const std::uint8_t*>(first);
  return moetrace::trace::begins_rows_file({begin, bytes}) ? 1 : 0;
}

moetrace_reader_batches* moetrace_reader_open_batches(moetrace_reader* reader, const char* name,
                                                      int fd, uint64_t byte, char* why,
                                                      size_t why_bytes) try {
  auto file = moetrace::trace::RowsFile::of(fd);
  if (!file) {
    std::snprintf(why, why_bytes, "%s: %s", name, file.error().message.c_str());
    return nullptr;
  }
  auto rows = reader->rows.open_rows(name, std::move(*file), byte);
  if (rows) return new moetrace_reader_batches{std::move(*rows), {}};
  std::snprintf(why, why_bytes, "%s; %s", rows.error().message.c_str(),
                what_to_try(rows.error()).c_str());
  return nullptr;
} catch (const std::exception&) {
  std::snprintf(why, why_bytes, "%s", kNoMemory);
  return nullptr;
}

int64_t moetrace_reader_read_batches(moetrace_reader* reader, moetrace_reader_batches* batches,
                                     moetrace_reader_rows* rows, int64_t only) try {
  int64_t passed = 0;
  reader->failed = false;
  const bool good =
      reader->rows.read_rows(batches->rows, batches->left, {.rows = rows, .only = only}, passed);
  return good ? passed : -1;
} catch (const std::exception&) {
  reader->failed = true;
  return -1;
}

uint64_t moetrace_reader_counted_batches(const moetrace_reader* reader) {
  return reader->rows.rows_counted();
}

int64_t moetrace_reader_read_message(moetrace_reader* reader, const void* message, size_t bytes,
                                     int64_t from_seq, moetrace_reader_rows* rows) try {
  const size_t before = rows->count;
  reader->failed = false;
  const auto* const begin = static_cast<const std::uint8_t*>(message);
  if (!reader->rows.read_message({begin, bytes}, from_seq, *rows)) return -1;
  return static_cast<int64_t>(rows->count - before);
} catch (const std::exception&) {
  reader->failed = true;
  return -1;
}

void moetrace_reader_close_batches(moetrace_reader_batches* batches) {
  delete batches;
}

uint64_t moetrace_reader_checksum(const void* body, size_t bytes) {
  return moetrace::trace::rows_checksum({static_cast<const uint8_t*>(body), bytes});
}

int moetrace_reader_is_packed(const char* first, size_t bytes) {
  return moetrace::trace::packing_of({first, bytes}) != moetrace::trace::Packing::kNone ? 1 : 0;
}

moetrace_reader_unpacked* moetrace_reader_unpack(int fd, char* why, size_t why_bytes) try {
  auto bytes = ByteSource::of(fd);
  if (bytes) return new moetrace_reader_unpacked{std::move(*bytes), {}};
  std::snprintf(why, why_bytes, "%s", bytes.error().message.c_str());
  return nullptr;
} catch (const std::exception&) {
  std::snprintf(why, why_bytes, "%s", kNoMemory);
  return nullptr;
}

int64_t moetrace_reader_unpack_read(moetrace_reader_unpacked* unpacked, char* room, size_t bytes,
                                    int* cut) try {
  const long got = unpacked->bytes.read(room, bytes);
  *cut = unpacked->bytes.cut() ? 1 : 0;
  if (got < 0) {
    const auto& error = unpacked->bytes.error();
    unpacked->error = error.message + "; " + what_to_try(error);
  }
  return got;
} catch (const std::exception&) {
  return -1;
}

const char* moetrace_reader_unpack_error(const moetrace_reader_unpacked* unpacked) {
  return unpacked->error.empty() ? kNoMemory : unpacked->error.c_str();
}

void moetrace_reader_unpack_close(moetrace_reader_unpacked* unpacked) {
  delete unpacked;
}
