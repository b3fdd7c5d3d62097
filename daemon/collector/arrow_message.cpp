#include "daemon/collector/arrow_message.hpp"

#include <lz4frame.h>
#include <zstd.h>

#include <bit>
#include <cstring>

#include "daemon/collector/float16.hpp"
#include "shm/abi.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace moetrace {
namespace {

using flatbuffers::FlatBufferBuilder;
using flatbuffers::Offset;
using Table = Offset<flatbuffers::Table>;

// Level 1 is the fastest one that still finds the repetitions of these columns.
constexpr int kZstdLevel = 1;
// The metadata of a batch has about 900 bytes: ten nodes and buffers, and four texts.
constexpr std::size_t kMetadataRoom = 4096;
constexpr std::uint16_t kMostByteIds = 256;

std::size_t padded(std::size_t bytes) {
  return (bytes + arrow::kAlignment - 1) / arrow::kAlignment * arrow::kAlignment;
}

Table add_text(FlatBufferBuilder& out, std::string_view key, std::string_view value) {
  const auto key_at = out.CreateString(key.data(), key.size());
  const auto value_at = out.CreateString(value.data(), value.size());
  const auto start = out.StartTable();
  out.AddOffset(arrow::key_value::kKey, key_at);
  out.AddOffset(arrow::key_value::kValue, value_at);
  return Table(out.EndTable(start));
}

Table add_int(FlatBufferBuilder& out, int bits, bool is_signed) {
  const auto start = out.StartTable();
  out.AddElement<std::int32_t>(arrow::int_type::kBitWidth, bits, 0);
  out.AddElement<std::uint8_t>(arrow::int_type::kIsSigned, is_signed, 0);
  return Table(out.EndTable(start));
}

Table add_float(FlatBufferBuilder& out, arrow::Precision precision) {
  const auto start = out.StartTable();
  out.AddElement<std::int16_t>(arrow::float_type::kPrecision, static_cast<std::int16_t>(precision),
                               0);
  return Table(out.EndTable(start));
}

Table add_field(FlatBufferBuilder& out, std::string_view name, bool nullable, arrow::Type type_kind,
                Table type, const std::vector<Table>& children = {}) {
  const auto name_at = out.CreateString(name.data(), name.size());
  const auto children_at = out.CreateVector(children);
  const auto start = out.StartTable();
  out.AddOffset(arrow::schema_field::kName, name_at);
  out.AddElement<std::uint8_t>(arrow::schema_field::kNullable, nullable, 0);
  out.AddElement<std::uint8_t>(arrow::schema_field::kTypeType, static_cast<std::uint8_t>(type_kind),
                               0);
  out.AddOffset(arrow::schema_field::kType, type);
  out.AddOffset(arrow::schema_field::kChildren, children_at);
  return Table(out.EndTable(start));
}

Table add_list(FlatBufferBuilder& out, std::string_view name, std::uint32_t size, Table item) {
  const auto start = out.StartTable();
  out.AddElement<std::int32_t>(arrow::list_type::kSize, static_cast<std::int32_t>(size), 0);
  const auto type = Table(out.EndTable(start));
  return add_field(out, name, false, arrow::Type::kFixedSizeList, type, {item});
}

void finish_message(FlatBufferBuilder& out, arrow::Header kind, Table header,
                    std::size_t body_bytes, const std::vector<Table>& metadata) {
  const auto metadata_at = out.CreateVector(metadata);
  const auto start = out.StartTable();
  // Written even where it is the default: V5 is not.
  out.AddElement<std::int16_t>(arrow::message::kVersion, arrow::kVersion5, 0);
  out.AddElement<std::uint8_t>(arrow::message::kHeaderType, static_cast<std::uint8_t>(kind), 0);
  out.AddOffset(arrow::message::kHeader, header);
  out.AddElement<std::int64_t>(arrow::message::kBodyLength, static_cast<std::int64_t>(body_bytes),
                               0);
  if (!metadata.empty()) out.AddOffset(arrow::message::kMetadata, metadata_at);
  out.Finish(Table(out.EndTable(start)));
}

// The continuation word, the metadata's length and the metadata, before `end`. Returns its begin.
char* put_metadata(char* end, const FlatBufferBuilder& metadata) {
  const std::size_t bytes = padded(metadata.GetSize());
  char* at = end - bytes - arrow::kPrefixBytes;
  std::memset(at, 0, bytes + arrow::kPrefixBytes);
  const auto length = static_cast<std::uint32_t>(bytes);
  std::memcpy(at, &arrow::kContinuation, sizeof arrow::kContinuation);
  std::memcpy(at + sizeof arrow::kContinuation, &length, sizeof length);
  std::memcpy(at + arrow::kPrefixBytes, metadata.GetBufferPointer(), metadata.GetSize());
  return at;
}

std::string hex(std::uint64_t number) {
  std::string text(16, '0');
  for (std::size_t n = 16; n-- > 0; number >>= 4) text[n] = "0123456789abcdef"[number & 15];
  return text;
}

}  // namespace

std::string schema_message(const RowsForm& form, std::string_view trace_id, std::uint64_t part) {
  using arrow::Type;
  FlatBufferBuilder out;
  const int bits = form.wide ? 64 : 32;
  std::vector<Table> fields;
  fields.push_back(add_field(out, "request", true, Type::kInt, add_int(out, bits, false)));
  fields.push_back(add_field(out, "token_idx", true, Type::kInt, add_int(out, bits, true)));
  fields.push_back(add_field(out, "step", false, Type::kInt, add_int(out, bits, false)));
  fields.push_back(add_field(out, "layer", false, Type::kInt, add_int(out, 16, false)));
  const int id_bits = form.num_experts > kMostByteIds ? 16 : 8;
  const Table id = add_field(out, "item", true, Type::kInt, add_int(out, id_bits, false));
  fields.push_back(add_list(out, "topk_ids", form.top_k, id));
  if (form.weights != RowWeights::kNone) {
    const auto precision =
        form.weights == RowWeights::kFloat16 ? arrow::Precision::kHalf : arrow::Precision::kSingle;
    const Table weight =
        add_field(out, "item", true, Type::kFloatingPoint, add_float(out, precision));
    fields.push_back(add_list(out, "topk_weights", form.top_k, weight));
  }
  fields.push_back(add_field(out, "skipped", false, Type::kInt, add_int(out, 32, false)));

  const std::vector<Table> metadata{add_text(out, arrow::kSchemaKey, "moetrace/1"),
                                    add_text(out, arrow::kTraceIdKey, trace_id),
                                    add_text(out, arrow::kPartKey, std::to_string(part))};
  const auto fields_at = out.CreateVector(fields);
  const auto metadata_at = out.CreateVector(metadata);
  const auto start = out.StartTable();
  out.AddOffset(arrow::schema::kFields, fields_at);
  out.AddOffset(arrow::schema::kMetadata, metadata_at);
  const auto schema = Table(out.EndTable(start));
  finish_message(out, arrow::Header::kSchema, schema, 0, {});

  std::string message(padded(out.GetSize()) + arrow::kPrefixBytes, '\0');
  put_metadata(message.data() + message.size(), out);
  return message;
}

// Compresses a buffer, with contexts that are kept.
class BatchEncoder::Compressor {
 public:
  explicit Compressor(RowCompression compression)
      : lz4_(compression == RowCompression::kLz4), zstd_(lz4_ ? nullptr : ::ZSTD_createCCtx()) {}
  ~Compressor() { ::ZSTD_freeCCtx(zstd_); }
  Compressor(const Compressor&) = delete;
  Compressor& operator=(const Compressor&) = delete;

  std::size_t bound(std::size_t bytes) const {
    return lz4_ ? ::LZ4F_compressFrameBound(bytes, nullptr) : ZSTD_COMPRESSBOUND(bytes);
  }
  // Bytes at `to`, which has room for bound(bytes); 0 if that failed.
  std::size_t compress(char* to, const void* data, std::size_t bytes) {
    const std::size_t room = bound(bytes);
    if (!lz4_) {
      const std::size_t made = ::ZSTD_compressCCtx(zstd_, to, room, data, bytes, kZstdLevel);
      return ::ZSTD_isError(made) != 0 ? 0 : made;
    }
    const std::size_t made = ::LZ4F_compressFrame(to, room, data, bytes, nullptr);
    return ::LZ4F_isError(made) != 0 ? 0 : made;
  }

 private:
  bool lz4_;
  ZSTD_CCtx* zstd_;
};

BatchEncoder::BatchEncoder(RowCompression compression)
    : compression_(compression), compressor_(std::make_unique<Compressor>(compression)) {}
BatchEncoder::~BatchEncoder() = default;

std::string_view BatchEncoder::encode(const RowBatch& batch, std::uint64_t next_seq,
                                      std::uint64_t delivered) {
  using Run = RowBatch::Run;
  nodes_.clear();
  buffers_.clear();
  end_ = kMetadataRoom;
  const RowsForm& form = batch.form();
  if (form.wide) {
    add_places<std::uint64_t>(batch, batch.requests());
    add_places<std::int64_t>(batch, batch.token_idx());
    add_column<std::uint64_t>(batch, [](const Run& run) { return run.step; });
  } else {
    add_places<std::uint32_t>(batch, batch.requests());
    add_places<std::int32_t>(batch, batch.token_idx());
    add_column<std::uint32_t>(batch, [](const Run& run) { return run.step; });
  }
  add_column<std::uint16_t>(batch, [](const Run& run) { return run.layer; });
  nodes_.push_back({batch.rows(), 0});
  add_buffer(nullptr, 0, Kind::kOther);
  if (form.num_experts > kMostByteIds) {
    add_ids<std::uint16_t>(batch);
  } else {
    add_ids<std::uint8_t>(batch);
  }
  if (form.weights != RowWeights::kNone) {
    nodes_.push_back({batch.rows(), 0});
    add_buffer(nullptr, 0, Kind::kOther);
    if (form.weights == RowWeights::kFloat16) {
      add_half_weights(batch);
    } else {
      add_weights(batch);
    }
  }
  auto* skipped = column<std::uint32_t>(batch.rows());
  std::memset(skipped, 0, batch.rows() * sizeof *skipped);
  for (const Run& run : batch.runs()) {
    *skipped = run.skipped;
    skipped += run.rows;
  }
  add_values(batch.rows(), 0, column_.data(), batch.rows() * sizeof *skipped, Kind::kOther);
  return finish(batch, next_seq, delivered);
}

// `places`: batch.requests() or batch.token_idx().
template <class Number>
void BatchEncoder::add_places(const RowBatch& batch, const std::uint64_t* places) {
  auto* values = column<Number>(batch.rows());
  std::size_t nulls = 0;
  auto* at = values;
  for (const RowBatch::Run& run : batch.runs()) {
    const std::uint64_t* const of_run = places + run.place;
    for (std::uint32_t n = 0; n < run.rows; ++n) {
      at[n] = static_cast<Number>(of_run[n]);
      nulls += of_run[n] == RowBatch::kUnknown;
    }
    at += run.rows;
  }
  if (nulls > 0) {
    all_valid(batch.rows());
    std::size_t row = 0;
    for (const RowBatch::Run& run : batch.runs()) {
      for (std::uint32_t n = 0; n < run.rows; ++n, ++row) {
        if (places[run.place + n] != RowBatch::kUnknown) continue;
        values[row] = 0;
        set_null(row);
      }
    }
  }
  add_values(batch.rows(), nulls, values, batch.rows() * sizeof *values, Kind::kOther);
}

template <class Number, class Value>
void BatchEncoder::add_column(const RowBatch& batch, const Value& value_of) {
  auto* values = column<Number>(batch.rows());
  auto* at = values;
  for (const RowBatch::Run& run : batch.runs())
    at = std::fill_n(at, run.rows, static_cast<Number>(value_of(run)));
  add_values(batch.rows(), 0, values, batch.rows() * sizeof *values, Kind::kOther);
}

template <class Id>
void BatchEncoder::add_ids(const RowBatch& batch) {
  const std::size_t count = std::size_t{batch.rows()} * batch.form().top_k;
  const std::uint16_t* ids = batch.ids();
  const std::uint32_t experts = batch.form().num_experts;
  auto* values = column<Id>(count);
  std::uint32_t unknown = 0;
  for (std::size_t n = 0; n < count; ++n) {
    values[n] = static_cast<Id>(ids[n]);
    unknown += ids[n] >= experts;
  }
  if (unknown > 0) {
    all_valid(count);
    for (std::size_t n = 0; n < count; ++n) {
      if (ids[n] < experts) continue;
      values[n] = 0;
      set_null(n);
    }
  }
  add_values(count, unknown, values, count * sizeof *values, Kind::kTopK);
}

void BatchEncoder::add_weights(const RowBatch& batch) {
  const std::size_t count = std::size_t{batch.rows()} * batch.form().top_k;
  const float* weights = batch.weights();
  std::uint32_t unknown = 0;
  for (std::size_t n = 0; n < count; ++n) unknown += !is_finite(weights[n]);
  const float* values = weights;
  if (unknown > 0) {
    auto* known = column<float>(count);
    all_valid(count);
    for (std::size_t n = 0; n < count; ++n) {
      const bool finite = is_finite(weights[n]);
      known[n] = finite ? weights[n] : 0;
      if (!finite) set_null(n);
    }
    values = known;
  }
  add_values(count, unknown, values, count * sizeof *values, Kind::kTopK);
}

void BatchEncoder::add_half_weights(const RowBatch& batch) {
  const std::size_t count = std::size_t{batch.rows()} * batch.form().top_k;
  const float* weights = batch.weights();
  auto* values = column<std::uint16_t>(count);
  std::uint32_t unknown = 0;
  for (std::size_t n = 0; n < count; ++n) {
    values[n] = half_bits(weights[n]);
    unknown += !fits_half(weights[n]);
  }
  if (unknown > 0) {
    all_valid(count);
    for (std::size_t n = 0; n < count; ++n) {
      if (fits_half(weights[n])) continue;
      values[n] = 0;
      set_null(n);
    }
  }
  add_values(count, unknown, values, count * sizeof *values, Kind::kTopK);
}

void BatchEncoder::add_values(std::size_t length, std::size_t nulls, const void* values,
                              std::size_t bytes, Kind kind) {
  nodes_.push_back({static_cast<std::int64_t>(length), static_cast<std::int64_t>(nulls)});
  add_buffer(valid_.data(), nulls == 0 ? 0 : (length + 7) / 8, Kind::kOther);
  add_buffer(values, bytes, kind);
}

void BatchEncoder::add_buffer(const void* data, std::size_t bytes, Kind kind) {
  const std::size_t begin = end_;
  const bool compressed = compression_ != RowCompression::kNone;
  // An empty buffer has no length before it.
  if (bytes > 0) {
    const std::size_t most = arrow::kLengthBytes + compressor_->bound(bytes) + arrow::kAlignment;
    if (message_.size() < begin + most) message_.resize(2 * (begin + most));
    char* at = message_.data() + begin;
    std::size_t made = 0;
    if (compressed && (kind == Kind::kOther || compression_ != RowCompression::kFast))
      made = compressor_->compress(at + arrow::kLengthBytes, data, bytes);
    // A buffer that does not shrink is stored as it is.
    const bool stored = made == 0 || made >= bytes;
    const std::int64_t length = stored ? arrow::kStoredRaw : static_cast<std::int64_t>(bytes);
    if (compressed) {
      std::memcpy(at, &length, sizeof length);
      at += arrow::kLengthBytes;
    }
    if (stored) {
      std::memcpy(at, data, bytes);
      made = bytes;
    }
    at += made;
    end_ = static_cast<std::size_t>(at - message_.data());
  }
  buffers_.push_back(
      {static_cast<std::int64_t>(begin - kMetadataRoom), static_cast<std::int64_t>(end_ - begin)});
  const std::size_t padding = padded(end_) - end_;
  if (padding > 0) std::memset(message_.data() + end_, 0, padding);
  end_ += padding;
}

std::string_view BatchEncoder::finish(const RowBatch& batch, std::uint64_t next_seq,
                                      std::uint64_t delivered) {
  const std::size_t body_bytes = end_ - kMetadataRoom;
  const std::uint64_t checksum = ::XXH3_64bits(message_.data() + kMetadataRoom, body_bytes);

  FlatBufferBuilder out;
  const std::vector<Table> metadata{
      add_text(out, arrow::kFirstSeqKey, std::to_string(batch.first_seq())),
      add_text(out, arrow::kNextSeqKey, std::to_string(next_seq)),
      add_text(out, arrow::kDeliveredKey, std::to_string(delivered)),
      add_text(out, arrow::kChecksumKey, hex(checksum))};
  const auto nodes = out.CreateVectorOfStructs(nodes_);
  const auto buffers = out.CreateVectorOfStructs(buffers_);
  Table compression;
  if (compression_ != RowCompression::kNone) {
    const auto codec =
        compression_ == RowCompression::kLz4 ? arrow::Codec::kLz4Frame : arrow::Codec::kZstd;
    const auto start = out.StartTable();
    out.AddElement<std::int8_t>(arrow::compression::kCodec, static_cast<std::int8_t>(codec), 0);
    compression = Table(out.EndTable(start));
  }
  const auto start = out.StartTable();
  out.AddElement<std::int64_t>(arrow::record_batch::kLength, batch.rows(), 0);
  out.AddOffset(arrow::record_batch::kNodes, nodes);
  out.AddOffset(arrow::record_batch::kBuffers, buffers);
  if (!compression.IsNull()) out.AddOffset(arrow::record_batch::kCompression, compression);
  const auto header = Table(out.EndTable(start));
  finish_message(out, arrow::Header::kRecordBatch, header, body_bytes, metadata);

  const char* begin = put_metadata(message_.data() + kMetadataRoom, out);
  return {begin, static_cast<std::size_t>(message_.data() + end_ - begin)};
}

template <class Number>
Number* BatchEncoder::column(std::size_t count) {
  const std::size_t words = (count * sizeof(Number) + sizeof column_[0] - 1) / sizeof column_[0];
  if (column_.size() < words) column_.resize(words);
  return reinterpret_cast<Number*>(column_.data());
}

void BatchEncoder::all_valid(std::size_t count) {
  valid_.assign((count + 7) / 8, 0xFF);
  if (count % 8 != 0) valid_.back() = static_cast<std::uint8_t>((1u << count % 8) - 1);
}

void BatchEncoder::set_null(std::size_t index) {
  valid_[index / 8] &= static_cast<std::uint8_t>(~(1u << index % 8));
}

}  // namespace moetrace
