#include "trace/arrow_message.hpp"

#include <charconv>
#include <optional>
#include <string_view>
#include <vector>

#include "trace/trace_lines.hpp"

namespace moetrace::trace {
namespace {

using flatbuffers::Table;
using flatbuffers::uoffset_t;
using flatbuffers::voffset_t;

constexpr std::uint64_t kMostSeq = std::uint64_t{1} << 60;

Error bad_message(std::string why) {
  return {ErrorCode::kBadRows, std::move(why)};
}

// FlatBuffers, read by field numbers. Each access is checked first; one that fails gives nothing,
// as if the field were absent, and is remembered.
class Metadata {
 public:
  // Depth is bounded by the fields that are asked for, so only the number of tables is counted.
  explicit Metadata(std::span<const std::uint8_t> bytes)
      : bytes_(bytes.data()),
        verifier_(bytes.data(), bytes.size(),
                  {.max_depth = kMostTables, .max_tables = kMostTables}) {}

  [[nodiscard]] bool failed() const { return failed_; }

  const Table* root() {
    const uoffset_t offset = verifier_.VerifyOffset(0);
    return offset == 0 ? fail<Table>() : table_at(bytes_ + offset);
  }

  template <class T>
  T number(const Table* table, voffset_t field, T absent) {
    if (table == nullptr) return absent;
    if (table->VerifyField<T>(verifier_, field, sizeof(T))) return table->GetField(field, absent);
    failed_ = true;
    return absent;
  }

  const Table* table(const Table* owner, voffset_t field) {
    const std::uint8_t* at = pointer(owner, field);
    return at == nullptr ? nullptr : table_at(at);
  }

  std::optional<std::string_view> text(const Table* owner, voffset_t field) {
    const auto* string = reinterpret_cast<const flatbuffers::String*>(pointer(owner, field));
    if (string == nullptr) return std::nullopt;
    if (verifier_.VerifyString(string)) return std::string_view(string->c_str(), string->size());
    failed_ = true;
    return std::nullopt;
  }

  // Of tables.
  std::vector<const Table*> tables(const Table* owner, voffset_t field, std::size_t most) {
    const std::uint8_t* at = pointer(owner, field);
    std::vector<const Table*> all;
    if (at == nullptr) return all;
    if (!verifier_.VerifyVectorOrString(at, sizeof(uoffset_t)) || count(at) > most) {
      failed_ = true;
      return all;
    }
    for (uoffset_t n = 0; n < count(at) && !failed_; ++n) {
      const std::uint8_t* const slot = at + sizeof(uoffset_t) * (n + std::size_t{1});
      const uoffset_t offset = verifier_.VerifyOffset(static_cast<std::size_t>(slot - bytes_));
      all.push_back(offset == 0 ? fail<Table>() : table_at(slot + offset));
    }
    return all;
  }

  // Of structs.
  template <class T>
  std::span<const T> structs(const Table* owner, voffset_t field) {
    const std::uint8_t* at = pointer(owner, field);
    if (at == nullptr) return {};
    const std::uint8_t* const first = at + sizeof(uoffset_t);
    if (!verifier_.VerifyVectorOrString(at, sizeof(T)) ||
        reinterpret_cast<std::uintptr_t>(first) % alignof(T) != 0) {
      failed_ = true;
      return {};
    }
    return {reinterpret_cast<const T*>(first), count(at)};
  }

 private:
  static constexpr uoffset_t kMostTables = 10000;

  template <class T>
  const T* fail() {
    failed_ = true;
    return nullptr;
  }

  static uoffset_t count(const std::uint8_t* vector) {
    return flatbuffers::ReadScalar<uoffset_t>(vector);
  }

  const Table* table_at(const std::uint8_t* at) {
    const auto* table = reinterpret_cast<const Table*>(at);
    return verifier_.VerifyTableStart(at) ? table : fail<Table>();
  }

  const std::uint8_t* pointer(const Table* owner, voffset_t field) {
    if (owner == nullptr) return nullptr;
    if (!owner->VerifyOffset(verifier_, field)) return fail<std::uint8_t>();
    return owner->GetPointer<const std::uint8_t*>(field);
  }

  const std::uint8_t* bytes_;
  flatbuffers::Verifier verifier_;
  bool failed_ = false;
};

// ---- keys and values ----

class Keys {
 public:
  Keys(Metadata& metadata, const Table* owner, voffset_t field) {
    constexpr std::size_t kMostKeys = 1024;
    for (const Table* entry : metadata.tables(owner, field, kMostKeys)) {
      const auto key = metadata.text(entry, arrow::key_value::kKey);
      const auto value = metadata.text(entry, arrow::key_value::kValue);
      if (key && value) all_.emplace_back(*key, *value);
    }
  }

  [[nodiscard]] std::optional<std::string_view> text(std::string_view key) const {
    for (const auto& [name, value] : all_) {
      if (name == key) return value;
    }
    return std::nullopt;
  }

  // At most 2^60 in decimal; in hexadecimal 16 digits.
  Result<std::uint64_t> number(std::string_view key, int base = 10) const {
    const auto value = text(key);
    if (!value) return bad_message("it has no \"" + std::string(key) + "\"");
    std::uint64_t number = 0;
    const auto [end, failed] =
        std::from_chars(value->data(), value->data() + value->size(), number, base);
    const bool whole = failed == std::errc() && end == value->data() + value->size();
    if (!whole || (base == 16 ? value->size() != 16 : number > kMostSeq)) {
      return bad_message("\"" + std::string(key) + "\" is \"" + std::string(*value) +
                         "\", expected " +
                         (base == 16 ? "16 hexadecimal digits" : "an integer from 0 to 2^60"));
    }
    return number;
  }

 private:
  std::vector<std::pair<std::string_view, std::string_view>> all_;
};

// ---- columns ----

// A column's type as text: "uint32", "float16", or "list of 8 uint8".
std::string type_of(Metadata& metadata, const Table* field) {
  using arrow::Type;
  const Table* const type = metadata.table(field, arrow::schema_field::kType);
  if (metadata.table(field, arrow::schema_field::kDictionary) != nullptr) return "dictionary";
  switch (
      static_cast<Type>(metadata.number<std::uint8_t>(field, arrow::schema_field::kTypeType, 0))) {
    case Type::kInt: {
      const auto width = metadata.number<std::int32_t>(type, arrow::int_type::kBitWidth, 0);
      const bool is_signed =
          metadata.number<std::uint8_t>(type, arrow::int_type::kIsSigned, 0) != 0;
      return (is_signed ? "int" : "uint") + std::to_string(width);
    }
    case Type::kFloatingPoint:
      switch (static_cast<arrow::Precision>(
          metadata.number<std::int16_t>(type, arrow::float_type::kPrecision, 0))) {
        case arrow::Precision::kHalf:
          return "float16";
        case arrow::Precision::kSingle:
          return "float32";
      }
      return "float64";
    case Type::kFixedSizeList: {
      const auto size = metadata.number<std::int32_t>(type, arrow::list_type::kSize, 0);
      const auto items = metadata.tables(field, arrow::schema_field::kChildren, 1);
      const Table* const item = items.empty() ? nullptr : items.front();
      const Table* const children = metadata.table(item, arrow::schema_field::kType);
      const auto item_type =
          static_cast<Type>(metadata.number<std::uint8_t>(item, arrow::schema_field::kTypeType, 0));
      if (children == nullptr || item_type == Type::kFixedSizeList) return "list of lists";
      return "list of " + std::to_string(size) + " " + type_of(metadata, item);
    }
  }
  return "of another type";
}

struct Column {
  std::string name;
  std::string type;
};

Error unlike(const Column& column, const std::string& expected) {
  return bad_message("column \"" + column.name + "\" is " + column.type + ", expected " + expected);
}

Result<void> read_columns(const std::vector<Column>& columns, RowsSchema& schema) {
  constexpr std::string_view kNames[] = {"request",  "token_idx",    "step",   "layer",
                                         "topk_ids", "topk_weights", "skipped"};
  std::vector<std::string_view> names(std::begin(kNames), std::end(kNames));
  constexpr std::size_t kWeightsAt = 5;
  if (columns.size() + 1 == names.size()) names.erase(names.begin() + kWeightsAt);
  bool same = columns.size() == names.size();
  for (std::size_t n = 0; same && n < names.size(); ++n) same = columns[n].name == names[n];
  if (!same) {
    return bad_message(
        "its columns are not request, token_idx, step, layer, topk_ids, topk_weights and skipped");
  }
  schema.wide = columns[0].type == "uint64";
  const std::string bits = schema.wide ? "64" : "32";
  if (columns[0].type != "uint" + bits) return unlike(columns[0], "uint32 or uint64");
  if (columns[1].type != "int" + bits) return unlike(columns[1], "int" + bits);
  if (columns[2].type != "uint" + bits) return unlike(columns[2], "uint" + bits);
  if (columns[3].type != "uint16") return unlike(columns[3], "uint16");
  if (columns.back().type != "uint32") return unlike(columns.back(), "uint32");
  for (std::uint32_t k = 1; k <= kMaxTopK; ++k) {
    const std::string list = "list of " + std::to_string(k) + " ";
    if (!columns[4].type.starts_with(list)) continue;
    schema.top_k = k;
    schema.two_byte_ids = columns[4].type == list + "uint16";
    if (!schema.two_byte_ids && columns[4].type != list + "uint8") break;
    if (columns.size() < std::size(kNames)) return {};
    const std::string& weights = columns[kWeightsAt].type;
    if (weights != list + "float32" && weights != list + "float16") {
      return unlike(columns[kWeightsAt], list + "float32 or float16");
    }
    schema.weights = weights.ends_with("16") ? StoredWeights::kFloat16 : StoredWeights::kFloat32;
    return {};
  }
  return unlike(columns[4], "list of 1 to 32 uint8 or uint16");
}

// The message's header, if it is of this kind.
Result<const Table*> header_of(Metadata& metadata, const Table* message, arrow::Header kind) {
  const auto version = metadata.number<std::int16_t>(message, arrow::message::kVersion, 0);
  const auto type = metadata.number<std::uint8_t>(message, arrow::message::kHeaderType, 0);
  const Table* const header = metadata.table(message, arrow::message::kHeader);
  if (metadata.failed() || header == nullptr) return bad_message("its metadata are damaged");
  if (version != arrow::kVersion5) {
    return bad_message("its metadata have version " + std::to_string(version + 1) + ", expected 5");
  }
  if (type != static_cast<std::uint8_t>(kind)) {
    return bad_message(kind == arrow::Header::kSchema ? "the first message is not a schema"
                                                      : "the message is not a record batch");
  }
  return header;
}

// ---- a batch ----

// Where the nodes and buffers of a batch of this schema go. A list has no values of its own.
std::vector<RowsColumn> columns_of(const RowsSchema& schema) {
  std::vector<RowsColumn> all = {RowsColumn::kRequest, RowsColumn::kTokenIdx, RowsColumn::kStep,
                                 RowsColumn::kLayer,   RowsColumn::kIds,      RowsColumn::kIdItems};
  if (schema.weights != StoredWeights::kNone) {
    all.push_back(RowsColumn::kWeights);
    all.push_back(RowsColumn::kWeightItems);
  }
  all.push_back(RowsColumn::kSkipped);
  return all;
}

bool is_list(RowsColumn column) {
  return column == RowsColumn::kIds || column == RowsColumn::kWeights;
}

bool may_be_null(RowsColumn column) {
  return column == RowsColumn::kRequest || column == RowsColumn::kTokenIdx ||
         column == RowsColumn::kIdItems || column == RowsColumn::kWeightItems;
}

Result<void> read_buffers(std::span<const arrow::Node> nodes,
                          std::span<const arrow::Buffer> buffers, const RowsSchema& schema,
                          RowsBatchHead& head) {
  const std::vector<RowsColumn> columns = columns_of(schema);
  std::size_t expected = 0;
  for (const RowsColumn column : columns) expected += is_list(column) ? 1 : 2;
  if (nodes.size() != columns.size() || buffers.size() != expected) {
    return bad_message("it has " + std::to_string(nodes.size()) + " columns and " +
                       std::to_string(buffers.size()) + " buffers, expected " +
                       std::to_string(columns.size()) + " and " + std::to_string(expected));
  }
  for (const arrow::Buffer& buffer : buffers) {
    if (buffer.offset < 0 || buffer.length < 0 ||
        static_cast<std::uint64_t>(buffer.offset) > head.body_bytes ||
        static_cast<std::uint64_t>(buffer.length) >
            head.body_bytes - static_cast<std::uint64_t>(buffer.offset) ||
        buffer.offset % static_cast<std::int64_t>(arrow::kAlignment) != 0) {
      return bad_message("a column lies outside of the message");
    }
  }
  std::size_t next = 0;
  for (std::size_t n = 0; n < columns.size(); ++n) {
    const RowsColumn column = columns[n];
    const bool items = column == RowsColumn::kIdItems || column == RowsColumn::kWeightItems;
    const std::int64_t length = std::int64_t{head.rows} * (items ? schema.top_k : 1);
    const arrow::Node& node = nodes[n];
    if (node.length != length) return bad_message("its columns have different lengths");
    if (node.null_count < 0 || node.null_count > length ||
        (node.null_count > 0 && !may_be_null(column))) {
      return bad_message("a column has nulls that can't be");
    }
    RowsBuffers& to = head.columns[static_cast<std::size_t>(column)];
    to.null_count = static_cast<std::uint64_t>(node.null_count);
    to.valid = buffers[next++];
    if (!is_list(column)) to.values = buffers[next++];
  }
  return {};
}

}  // namespace

Result<RowsSchema> read_rows_schema(std::span<const std::uint8_t> bytes) {
  Metadata metadata(bytes);
  const auto header = header_of(metadata, metadata.root(), arrow::Header::kSchema);
  if (!header) return header.error();
  const Keys keys(metadata, *header, arrow::schema::kMetadata);
  std::vector<Column> columns;
  constexpr std::size_t kMostColumns = 64;
  for (const Table* field : metadata.tables(*header, arrow::schema::kFields, kMostColumns)) {
    columns.push_back({std::string(metadata.text(field, arrow::schema_field::kName).value_or("")),
                       type_of(metadata, field)});
  }
  const bool big_endian =
      metadata.number<std::int16_t>(*header, arrow::schema::kEndianness, 0) != 0;
  if (metadata.failed()) return bad_message("its metadata are damaged");
  const auto name = keys.text(arrow::kSchemaKey);
  if (!name) {
    return bad_message("it is an Arrow file without \"" + std::string(arrow::kSchemaKey) +
                       "\", not the rows of a trace");
  }
  if (*name != "moetrace/1") {
    return Error{ErrorCode::kBadRows,
                 "schema \"" + std::string(*name) + "\" is not known here (this reads moetrace/1)",
                 "use the moetrace that has written it"};
  }
  const auto trace_id = keys.text(arrow::kTraceIdKey);
  if (!trace_id) return bad_message("it has no \"" + std::string(arrow::kTraceIdKey) + "\"");
  const auto part = keys.number(arrow::kPartKey);
  if (!part) return part.error();
  if (big_endian) return bad_message("its numbers are big-endian");
  RowsSchema schema{.trace_id = std::string(*trace_id), .part = *part};
  if (const auto read = read_columns(columns, schema); !read) return read.error();
  return schema;
}

Result<RowsBatchHead> read_rows_batch(std::span<const std::uint8_t> bytes,
                                      const RowsSchema& schema) {
  Metadata metadata(bytes);
  const Table* const message = metadata.root();
  const auto header = header_of(metadata, message, arrow::Header::kRecordBatch);
  if (!header) return header.error();
  const Keys keys(metadata, message, arrow::message::kMetadata);
  const auto body = metadata.number<std::int64_t>(message, arrow::message::kBodyLength, 0);
  const auto rows = metadata.number<std::int64_t>(*header, arrow::record_batch::kLength, 0);
  const auto nodes = metadata.structs<arrow::Node>(*header, arrow::record_batch::kNodes);
  const auto buffers = metadata.structs<arrow::Buffer>(*header, arrow::record_batch::kBuffers);
  const Table* const packed = metadata.table(*header, arrow::record_batch::kCompression);
  const auto codec = static_cast<arrow::Codec>(
      metadata.number<std::int8_t>(packed, arrow::compression::kCodec, 0));
  const auto method = metadata.number<std::int8_t>(packed, arrow::compression::kMethod, 0);
  if (metadata.failed()) return bad_message("its metadata are damaged");

  RowsBatchHead head;
  const std::pair<std::string_view, std::uint64_t*> numbers[] = {
      {arrow::kFirstSeqKey, &head.first_seq},
      {arrow::kNextSeqKey, &head.next_seq},
      {arrow::kDeliveredKey, &head.delivered}};
  for (const auto& [key, to] : numbers) {
    const auto number = keys.number(key);
    if (!number) return number.error();
    *to = *number;
  }
  const auto checksum = keys.number(arrow::kChecksumKey, 16);
  if (!checksum) return checksum.error();
  head.checksum = *checksum;
  if (rows < 0 || rows > std::int64_t{kMaxBatchRows}) {
    return bad_message("it has " + std::to_string(rows) + " rows, expected at most " +
                       std::to_string(kMaxBatchRows));
  }
  head.rows = static_cast<std::uint32_t>(rows);
  if (head.next_seq < head.first_seq || head.next_seq - head.first_seq < head.rows) {
    return bad_message("its " + std::to_string(rows) + " rows don't fit between seq " +
                       std::to_string(head.first_seq) + " and " + std::to_string(head.next_seq));
  }
  if (packed != nullptr) {
    const bool known = codec == arrow::Codec::kLz4Frame || codec == arrow::Codec::kZstd;
    if (!known || method != 0)
      return bad_message("it is compressed in a way that is not known here");
    head.body = codec == arrow::Codec::kZstd ? StoredBody::kZstd : StoredBody::kLz4;
  }
  // All columns at their widest, and as much again for what can't be compressed and for padding.
  const std::uint64_t widest = head.rows * (32 + std::uint64_t{8} * schema.top_k);
  if (body < 0 || static_cast<std::uint64_t>(body) > 2 * widest + 65536) {
    return bad_message("its body has " + std::to_string(body) + " bytes, more than " +
                       std::to_string(rows) + " rows can have");
  }
  head.body_bytes = static_cast<std::uint64_t>(body);
  if (head.body_bytes % arrow::kAlignment != 0) {
    return bad_message("its body has " + std::to_string(body) + " bytes, expected a multiple of 8");
  }
  if (const auto read = read_buffers(nodes, buffers, schema, head); !read) return read.error();
  return head;
}

}  // namespace moetrace::trace
