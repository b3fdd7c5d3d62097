// The messages of a rows file: Arrow's IPC streaming format (FORMAT.md, "Rows as Arrow").
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/collector/row_batch.hpp"
#include "daemon/collector/rows_form.hpp"
#include "trace/arrow_format.hpp"

namespace moetrace {

// The first message of a part's rows file.
std::string schema_message(const RowsForm& form, std::string_view trace_id, std::uint64_t part);

// Encodes batches, one after the other, in memory that it keeps.
class BatchEncoder {
 public:
  explicit BatchEncoder(RowCompression compression);
  ~BatchEncoder();

  // The message of a batch that is not empty. `next_seq`: the batch's end; `delivered`: rows of the
  // trace up to there. Valid until the next call.
  std::string_view encode(const RowBatch& batch, std::uint64_t next_seq, std::uint64_t delivered);

 private:
  class Compressor;
  // Ids and weights, which `fast` stores as they are, or another column.
  enum class Kind { kTopK, kOther };

  template <class Number>
  void add_places(const RowBatch& batch, const std::uint64_t* places);
  template <class Number, class Value>
  void add_column(const RowBatch& batch, const Value& value_of);
  template <class Id>
  void add_ids(const RowBatch& batch);
  void add_weights(const RowBatch& batch);
  void add_half_weights(const RowBatch& batch);

  // The validity bitmap and the values of a column, or of the items of a list.
  void add_values(std::size_t length, std::size_t nulls, const void* values, std::size_t bytes,
                  Kind kind);
  void add_buffer(const void* data, std::size_t bytes, Kind kind);
  std::string_view finish(const RowBatch& batch, std::uint64_t next_seq, std::uint64_t delivered);

  // Room for `count` values, or bits.
  template <class Number>
  Number* column(std::size_t count);
  void all_valid(std::size_t count);
  void set_null(std::size_t index);

  RowCompression compression_;
  std::unique_ptr<Compressor> compressor_;
  std::vector<arrow::Node> nodes_;
  std::vector<arrow::Buffer> buffers_;
  // Room for the metadata, then the body; and the end of the body.
  std::vector<char> message_;
  std::size_t end_ = 0;
  std::vector<std::uint64_t> column_;
  std::vector<std::uint8_t> valid_;
};

}  // namespace moetrace
