// The names and numbers of a rows file (FORMAT.md, "Rows as Arrow"), for its writer and its
// readers.
//
// Arrow's metadata is FlatBuffers. The tables here are those of Schema.fbs and Message.fbs in the
// Arrow format, version 1.5; a field's number is its place in its table, from 0.
#pragma once

#include <flatbuffers/flatbuffers.h>

#include <cstdint>
#include <string_view>

namespace moetrace::arrow {

// ---- what is ours ----

inline constexpr std::string_view kSchemaKey = "moetrace.schema";
inline constexpr std::string_view kTraceIdKey = "moetrace.trace_id";
inline constexpr std::string_view kPartKey = "moetrace.part";
inline constexpr std::string_view kFirstSeqKey = "moetrace.first_seq";
inline constexpr std::string_view kNextSeqKey = "moetrace.next_seq";
inline constexpr std::string_view kDeliveredKey = "moetrace.delivered";
inline constexpr std::string_view kChecksumKey = "moetrace.xxh3";

inline constexpr std::string_view kExtension = ".arrows";

// A batch ends with this many slots.
inline constexpr std::uint32_t kSlotsABatch = 32768;

// ---- what is Arrow's ----

// Before each message: this word, then the length of its metadata with padding.
inline constexpr std::uint32_t kContinuation = 0xFFFFFFFFu;
inline constexpr std::size_t kPrefixBytes = 8;
// Metadata that are longer than this are not a rows file's: they have a few hundred bytes.
inline constexpr std::uint32_t kMaxMetadataBytes = 1 << 20;
// Metadata and body, and each buffer in the body, take a multiple of this.
inline constexpr std::size_t kAlignment = 8;
// In front of a compressed buffer: its length uncompressed, or kStoredRaw.
inline constexpr std::size_t kLengthBytes = 8;
inline constexpr std::int64_t kStoredRaw = -1;

inline constexpr std::int16_t kVersion5 = 4;
enum class Header : std::uint8_t { kSchema = 1, kRecordBatch = 3 };
enum class Type : std::uint8_t { kInt = 2, kFloatingPoint = 3, kFixedSizeList = 16 };
enum class Precision : std::int16_t { kHalf = 0, kSingle = 1 };
enum class Codec : std::int8_t { kLz4Frame = 0, kZstd = 1 };

// Where FlatBuffers' vtable has the field of this number.
constexpr flatbuffers::voffset_t field(unsigned number) {
  return static_cast<flatbuffers::voffset_t>(4 + 2 * number);
}

namespace message {
inline constexpr auto kVersion = field(0), kHeaderType = field(1), kHeader = field(2),
                      kBodyLength = field(3), kMetadata = field(4);
}
namespace schema {
inline constexpr auto kEndianness = field(0), kFields = field(1), kMetadata = field(2);
}
namespace schema_field {
inline constexpr auto kName = field(0), kNullable = field(1), kTypeType = field(2),
                      kType = field(3), kDictionary = field(4), kChildren = field(5);
}
namespace int_type {
inline constexpr auto kBitWidth = field(0), kIsSigned = field(1);
}
namespace float_type {
inline constexpr auto kPrecision = field(0);
}
namespace list_type {
inline constexpr auto kSize = field(0);
}
namespace record_batch {
inline constexpr auto kLength = field(0), kNodes = field(1), kBuffers = field(2),
                      kCompression = field(3);
}
namespace compression {
inline constexpr auto kCodec = field(0), kMethod = field(1);
}
namespace key_value {
inline constexpr auto kKey = field(0), kValue = field(1);
}

// Of a column, or of the items of a list.
struct Node {
  std::int64_t length;
  std::int64_t null_count;
};
// Of a body.
struct Buffer {
  std::int64_t offset;
  std::int64_t length;
};

}  // namespace moetrace::arrow
