// The metadata of a message of a rows file (FORMAT.md, "Rows as Arrow"), checked before anything in
// it is believed.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <variant>

#include "trace/arrow_format.hpp"
#include "trace/errors.hpp"

namespace moetrace::trace {

// The most that is read of one message of any writer. The collector's messages have some
// hundred bytes of metadata and at most arrow::kSlotsABatch rows.
constexpr std::uint32_t kMaxBatchRows = std::uint32_t{1} << 20;

enum class StoredWeights : std::uint8_t { kNone, kFloat16, kFloat32 };
enum class StoredBody : std::uint8_t { kPlain, kLz4, kZstd };

// What the file's first message says.
struct RowsSchema {
  std::string trace_id;
  std::uint64_t part = 1;
  std::uint32_t top_k = 0;  // 1 to kMaxTopK
  bool two_byte_ids = false;
  bool wide = false;  // request, token_idx and step have 64 bits
  StoredWeights weights = StoredWeights::kNone;
};

// The columns' nodes and buffers, in the order of a record batch; a column without weights leaves
// its places empty.
enum class RowsColumn : std::uint8_t {
  kRequest,
  kTokenIdx,
  kStep,
  kLayer,
  kIds,
  kIdItems,
  kWeights,
  kWeightItems,
  kSkipped,
  kCount
};
struct RowsBuffers {
  std::uint64_t null_count = 0;
  arrow::Buffer valid{};  // bit i: item i is not null; empty: all are
  arrow::Buffer values{};
};

// What the message of a record batch says. Buffers lie in the body, one after the other.
struct RowsBatchHead {
  std::uint64_t first_seq = 0;
  std::uint64_t next_seq = 0;   // first_seq or more, at most 2^60
  std::uint64_t delivered = 0;  // at most 2^60
  std::uint64_t checksum = 0;
  std::uint32_t rows = 0;  // at most kMaxBatchRows
  StoredBody body = StoredBody::kPlain;
  std::uint64_t body_bytes = 0;
  std::array<RowsBuffers, static_cast<std::size_t>(RowsColumn::kCount)> columns{};

  [[nodiscard]] const RowsBuffers& of(RowsColumn column) const {
    return columns[static_cast<std::size_t>(column)];
  }
};

// `metadata`: of one message, without its prefix, aligned to arrow::kAlignment. Errors: kBadRows;
// the message is the "why" alone.
Result<RowsSchema> read_rows_schema(std::span<const std::uint8_t> metadata);
Result<RowsBatchHead> read_rows_batch(std::span<const std::uint8_t> metadata,
                                      const RowsSchema& schema);

}  // namespace moetrace::trace
