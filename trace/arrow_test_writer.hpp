// Rows files for tests, strictly by FORMAT.md, "Rows as Arrow".
#pragma once

#include <lz4frame.h>
#include <zstd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "trace/arrow_format.hpp"
#include "trace/arrow_message.hpp"
#include "trace/trace_lines.hpp"

namespace moetrace::trace {

struct TestRow {
  std::optional<std::uint64_t> request;
  std::optional<std::uint64_t> token_idx;
  std::uint64_t step = 0;
  std::uint16_t layer = 0;
  std::vector<std::uint16_t> ids;  // kNoExpert: null
  std::vector<float> weights;      // NaN: null; exact as float16 if they are stored so
  std::uint64_t seq = 0;
};

class ArrowTestWriter {
 public:
  explicit ArrowTestWriter(RowsSchema schema, StoredBody body = StoredBody::kPlain)
      : schema_(std::move(schema)), stored_(body) {
    const int bits = schema_.wide ? 64 : 32;
    std::vector<Offset> fields = {
        field("request", true, integer(bits, false)), field("token_idx", true, integer(bits, true)),
        field("step", false, integer(bits, false)), field("layer", false, integer(16, false)),
        list("topk_ids", integer(schema_.two_byte_ids ? 16 : 8, false))};
    if (schema_.weights != StoredWeights::kNone) fields.push_back(list("topk_weights", floating()));
    fields.push_back(field("skipped", false, integer(32, false)));
    const auto all = fb_.CreateVector(fields);
    const Offset keys = texts({{arrow::kSchemaKey, "moetrace/1"},
                               {arrow::kTraceIdKey, schema_.trace_id},
                               {arrow::kPartKey, std::to_string(schema_.part)}});
    const auto start = fb_.StartTable();
    fb_.AddOffset(arrow::schema::kFields, all);
    fb_.AddOffset(arrow::schema::kMetadata, keys);
    message(arrow::Header::kSchema, fb_.EndTable(start), {});
  }

  // Rows of [first_seq, next_seq), seq rising. `delivered`: of the trace, with them.
  void batch(std::uint64_t first_seq, std::uint64_t next_seq, std::uint64_t delivered,
             const std::vector<TestRow>& rows) {
    using Value = std::optional<std::uint64_t>;
    const std::size_t wide = schema_.wide ? 8 : 4;
    const bool half = schema_.weights == StoredWeights::kFloat16;
    body_.clear();
    nodes_.clear();
    buffers_.clear();
    column(rows, 1, wide, [](const TestRow& row, std::size_t) -> Value { return row.request; });
    column(rows, 1, wide, [](const TestRow& row, std::size_t) -> Value { return row.token_idx; });
    column(rows, 1, wide, [](const TestRow& row, std::size_t) -> Value { return row.step; });
    column(rows, 1, 2, [](const TestRow& row, std::size_t) -> Value { return row.layer; });
    list_of(rows);
    column(rows, schema_.top_k, schema_.two_byte_ids ? 2 : 1,
           [](const TestRow& row, std::size_t k) -> Value {
             if (row.ids.at(k) == kNoExpert) return std::nullopt;
             return row.ids.at(k);
           });
    if (schema_.weights != StoredWeights::kNone) {
      list_of(rows);
      column(rows, schema_.top_k, half ? 2 : 4, [half](const TestRow& row, std::size_t k) -> Value {
        const float weight = row.weights.at(k);
        if (std::isnan(weight)) return std::nullopt;
        return half ? half_of(weight) : std::bit_cast<std::uint32_t>(weight);
      });
    }
    std::uint64_t next = first_seq;
    column(rows, 1, 4, [&next](const TestRow& row, std::size_t) -> Value {
      return row.seq - std::exchange(next, row.seq + 1);
    });
    char checksum[17];
    std::snprintf(checksum, sizeof checksum, "%016llx",
                  static_cast<unsigned long long>(XXH3_64bits(body_.data(), body_.size())));
    write(rows.size(), texts({{arrow::kFirstSeqKey, std::to_string(first_seq)},
                              {arrow::kNextSeqKey, std::to_string(next_seq)},
                              {arrow::kDeliveredKey, std::to_string(delivered)},
                              {arrow::kChecksumKey, checksum}}));
  }

  const std::string& bytes() const { return bytes_; }
  // For files that don't fit into memory: the caller has written them.
  void forget() { bytes_.clear(); }
  std::uint64_t batches() const { return batches_; }

 private:
  using Offset = flatbuffers::Offset<void>;
  struct TypeOf {
    arrow::Type type;
    Offset table;
  };

  // ---- metadata ----

  TypeOf integer(std::int32_t bits, bool is_signed) {
    const auto start = fb_.StartTable();
    fb_.AddElement<std::int32_t>(arrow::int_type::kBitWidth, bits, 0);
    fb_.AddElement<std::uint8_t>(arrow::int_type::kIsSigned, is_signed ? 1 : 0, 0);
    return {arrow::Type::kInt, Offset(fb_.EndTable(start))};
  }

  TypeOf floating() {
    const auto start = fb_.StartTable();
    const auto precision = schema_.weights == StoredWeights::kFloat16 ? arrow::Precision::kHalf
                                                                      : arrow::Precision::kSingle;
    fb_.AddElement(arrow::float_type::kPrecision, static_cast<std::int16_t>(precision),
                   std::int16_t{0});
    return {arrow::Type::kFloatingPoint, Offset(fb_.EndTable(start))};
  }

  Offset field(const char* name, bool nullable, TypeOf type, std::vector<Offset> items = {}) {
    const auto text = fb_.CreateString(name);
    const auto children = fb_.CreateVector(items);
    const auto start = fb_.StartTable();
    fb_.AddOffset(arrow::schema_field::kName, text);
    fb_.AddElement<std::uint8_t>(arrow::schema_field::kNullable, nullable ? 1 : 0, 0);
    fb_.AddElement(arrow::schema_field::kTypeType, static_cast<std::uint8_t>(type.type),
                   std::uint8_t{0});
    fb_.AddOffset(arrow::schema_field::kType, type.table);
    fb_.AddOffset(arrow::schema_field::kChildren, children);
    return Offset(fb_.EndTable(start));
  }

  Offset list(const char* name, TypeOf items) {
    const Offset item = field("item", true, items);
    const auto start = fb_.StartTable();
    fb_.AddElement(arrow::list_type::kSize, static_cast<std::int32_t>(schema_.top_k), 0);
    const Offset type(fb_.EndTable(start));
    return field(name, false, {arrow::Type::kFixedSizeList, type}, {item});
  }

  Offset texts(const std::vector<std::pair<std::string_view, std::string>>& pairs) {
    std::vector<Offset> all;
    for (const auto& [key, value] : pairs) {
      const auto key_text = fb_.CreateString(key.data(), key.size());
      const auto value_text = fb_.CreateString(value);
      const auto start = fb_.StartTable();
      fb_.AddOffset(arrow::key_value::kKey, key_text);
      fb_.AddOffset(arrow::key_value::kValue, value_text);
      all.emplace_back(fb_.EndTable(start));
    }
    return Offset(fb_.CreateVector(all).o);
  }

  void write(std::size_t rows, Offset keys) {
    Offset compression;
    if (stored_ != StoredBody::kPlain) {
      const auto start = fb_.StartTable();
      fb_.AddElement(
          arrow::compression::kCodec,
          static_cast<std::int8_t>(stored_ == StoredBody::kZstd ? arrow::Codec::kZstd
                                                                : arrow::Codec::kLz4Frame),
          std::int8_t{0});
      compression = Offset(fb_.EndTable(start));
    }
    const auto nodes = fb_.CreateVectorOfStructs(nodes_);
    const auto buffers = fb_.CreateVectorOfStructs(buffers_);
    const auto start = fb_.StartTable();
    fb_.AddElement(arrow::record_batch::kLength, static_cast<std::int64_t>(rows), std::int64_t{0});
    fb_.AddOffset(arrow::record_batch::kNodes, nodes);
    fb_.AddOffset(arrow::record_batch::kBuffers, buffers);
    fb_.AddOffset(arrow::record_batch::kCompression, compression);
    message(arrow::Header::kRecordBatch, fb_.EndTable(start), keys);
    bytes_ += body_;
    ++batches_;
  }

  void message(arrow::Header type, flatbuffers::uoffset_t header, Offset keys) {
    const auto start = fb_.StartTable();
    fb_.AddElement(arrow::message::kVersion, arrow::kVersion5, std::int16_t{0});
    fb_.AddElement(arrow::message::kHeaderType, static_cast<std::uint8_t>(type), std::uint8_t{0});
    fb_.AddOffset(arrow::message::kHeader, Offset(header));
    fb_.AddElement(arrow::message::kBodyLength, static_cast<std::int64_t>(body_.size()),
                   std::int64_t{0});
    fb_.AddOffset(arrow::message::kMetadata, keys);
    fb_.Finish(Offset(fb_.EndTable(start)));
    std::string metadata(reinterpret_cast<const char*>(fb_.GetBufferPointer()), fb_.GetSize());
    pad(metadata);
    append(bytes_, arrow::kContinuation, 4);
    append(bytes_, metadata.size(), 4);
    bytes_ += metadata;
    fb_.Clear();
  }

  // ---- body ----

  static std::uint16_t half_of(float weight) {
    const auto bits = std::bit_cast<std::uint32_t>(weight);
    const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000);
    const float size = std::fabs(weight);
    if (size < 0x1p-14F) return static_cast<std::uint16_t>(sign | std::lround(size * 0x1p24F));
    constexpr int kBias = 127 - 15;
    return static_cast<std::uint16_t>(sign | ((bits >> 13 & 0x3FFFF) - (kBias << 10)));
  }

  static void append(std::string& to, std::uint64_t value, std::size_t bytes) {
    for (std::size_t n = 0; n < bytes; ++n) to += static_cast<char>(value >> (8 * n) & 0xFF);
  }
  static void pad(std::string& bytes) {
    bytes.resize((bytes.size() + arrow::kAlignment - 1) / arrow::kAlignment * arrow::kAlignment);
  }

  void list_of(const std::vector<TestRow>& rows) {
    nodes_.push_back({static_cast<std::int64_t>(rows.size()), 0});
    buffer({}, false);
  }

  // `of`(row, k): the item's bits, or nothing for null.
  template <class Of>
  void column(const std::vector<TestRow>& rows, std::size_t items, std::size_t bytes, Of of) {
    std::string valid, values;
    std::int64_t nulls = 0;
    std::size_t n = 0;
    for (const TestRow& row : rows) {
      for (std::size_t k = 0; k < items; ++k, ++n) {
        const std::optional<std::uint64_t> value = of(row, k);
        if (n % 8 == 0) valid += '\0';
        if (value) valid.back() = static_cast<char>(valid.back() | 1 << n % 8);
        if (!value) ++nulls;
        append(values, value.value_or(0), bytes);
      }
    }
    nodes_.push_back({static_cast<std::int64_t>(n), nulls});
    buffer(nulls == 0 ? std::string() : valid, false);
    buffer(values, items > 1 && stored_ == StoredBody::kZstd);  // lists raw, as by `fast`
  }

  void buffer(const std::string& bytes, bool raw) {
    const std::string stored = packed(bytes, raw);
    buffers_.push_back(
        {static_cast<std::int64_t>(body_.size()), static_cast<std::int64_t>(stored.size())});
    body_ += stored;
    pad(body_);
  }

  std::string packed(const std::string& bytes, bool raw) const {
    if (stored_ == StoredBody::kPlain || bytes.empty()) return bytes;
    std::string all;
    append(all, raw ? static_cast<std::uint64_t>(arrow::kStoredRaw) : bytes.size(),
           arrow::kLengthBytes);
    if (raw) return all + bytes;
    const bool zstd = stored_ == StoredBody::kZstd;
    std::string room(
        zstd ? ZSTD_compressBound(bytes.size()) : LZ4F_compressFrameBound(bytes.size(), nullptr),
        '\0');
    room.resize(
        zstd ? ZSTD_compress(room.data(), room.size(), bytes.data(), bytes.size(), 1)
             : LZ4F_compressFrame(room.data(), room.size(), bytes.data(), bytes.size(), nullptr));
    return all + room;
  }

  RowsSchema schema_;
  StoredBody stored_;
  flatbuffers::FlatBufferBuilder fb_;
  std::string bytes_, body_;
  std::vector<arrow::Node> nodes_;
  std::vector<arrow::Buffer> buffers_;
  std::uint64_t batches_ = 0;
};

}  // namespace moetrace::trace
