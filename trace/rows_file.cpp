#include "trace/rows_file.hpp"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <utility>

namespace moetrace::trace {
namespace {

// What a message says of its length is believed this far before its bytes have come.
constexpr std::uint64_t kBelievedBytes = std::uint64_t{4} << 20;

#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
constexpr bool kChecked = false;
#else
constexpr bool kChecked = true;
#endif

std::uint32_t word_at(const std::uint8_t* bytes) {
  std::uint32_t word = 0;
  std::memcpy(&word, bytes, sizeof word);
  return word;
}

}  // namespace

bool begins_rows_file(std::span<const std::uint8_t> first) {
  if (first.size() < arrow::kPrefixBytes || word_at(first.data()) != arrow::kContinuation)
    return false;
  const std::uint32_t length = word_at(first.data() + sizeof arrow::kContinuation);
  return length > 0 && length <= arrow::kMaxMetadataBytes && length % arrow::kAlignment == 0;
}

bool is_rows_file(const std::string& path) {
  std::error_code failed;
  if (!std::filesystem::is_regular_file(path, failed)) return false;  // reading would take from it
  auto source = ByteSource::open(path);
  if (!source) return false;
  std::uint8_t first[arrow::kPrefixBytes];
  std::size_t have = 0;
  while (have < sizeof first) {
    const long got = source->read(reinterpret_cast<char*>(first) + have, sizeof first - have);
    if (got <= 0) return false;
    have += static_cast<std::size_t>(got);
  }
  return begins_rows_file({first, have});
}

std::uint64_t rows_checksum(std::span<const std::uint8_t> body) {
  return XXH3_64bits(body.data(), body.size());
}

Result<RowsFile> RowsFile::open(const std::string& path) {
  auto source = ByteSource::open(path);
  if (!source) return source.error();
  return RowsFile(std::move(*source));
}

Result<RowsFile> RowsFile::of(int fd) {
  auto source = ByteSource::of(fd);
  if (!source) return source.error();
  return RowsFile(std::move(*source));
}

Error RowsFile::fail(Error error) {
  error.message = "byte " + std::to_string(offset_) + ": " + error.message;
  failed_ = std::move(error);
  return *failed_;
}

Error RowsFile::fail(std::string why) {
  return fail(Error{ErrorCode::kBadRows, std::move(why)});
}

bool RowsFile::fill(Room& room, std::uint64_t size) {
  room.size = 0;
  while (room.size < size) {
    const std::uint64_t wanted = std::min(size, room.size + kBelievedBytes);
    if (room.bytes.size() < wanted) room.bytes.resize(wanted);
    const long got = source_.read(reinterpret_cast<char*>(room.bytes.data()) + room.size,
                                  static_cast<std::size_t>(wanted - room.size));
    if (got < 0) {
      fail(source_.error());
      return false;
    }
    if (got == 0) return false;
    room.size += static_cast<std::size_t>(got);
    taken_ += static_cast<std::uint64_t>(got);
  }
  return true;
}

bool RowsFile::read_metadata(std::uint64_t end) {
  taken_ = 0;
  unfinished_.reset();
  if (offset_ >= end) return false;
  const auto cut = [this] {
    if (failed_) return false;
    unfinished_ = taken_;
    fail("the message is cut: the file ends after " + std::to_string(taken_) + " bytes of it");
    return false;
  };
  if (!fill(metadata_, arrow::kPrefixBytes)) return taken_ == 0 && !failed_ ? false : cut();
  if (word_at(metadata_.bytes.data()) != arrow::kContinuation) {
    fail("no Arrow message begins here");
    return false;
  }
  const std::uint32_t length = word_at(metadata_.bytes.data() + sizeof(std::uint32_t));
  if (length == 0) return false;  // the end marker of other writers
  if (length > arrow::kMaxMetadataBytes || length % arrow::kAlignment != 0) {
    fail("the message says that its metadata have " + std::to_string(length) +
         " bytes, expected a multiple of 8 up to " + std::to_string(arrow::kMaxMetadataBytes));
    return false;
  }
  return fill(metadata_, length) || cut();
}

Result<const RowsSchema*> RowsFile::schema() {
  if (failed_) return *failed_;
  if (schema_) return &*schema_;
  if (!read_metadata(UINT64_MAX)) return failed_ ? *failed_ : fail("the file is empty");
  auto schema = read_rows_schema({metadata_.bytes.data(), metadata_.size});
  if (!schema) return fail(schema.error());
  schema_ = std::move(*schema);
  offset_ += taken_;
  return &*schema_;
}

Result<const RowsBatch*> RowsFile::next(const RowsLimits& limits, std::uint64_t end) {
  if (const auto known = schema(); !known) return known.error();
  if (!read_metadata(end)) {
    if (failed_) return *failed_;
    return nullptr;
  }
  const auto head = read_rows_batch({metadata_.bytes.data(), metadata_.size}, *schema_);
  if (!head) return fail(head.error());
  const std::uint64_t length = taken_ + head->body_bytes;
  if (length > end - offset_) {
    return fail("the message ends at byte " + std::to_string(offset_ + length) + ", beyond byte " +
                std::to_string(end) + ", where the last rows line ends it");
  }
  if (!fill(body_bytes_, head->body_bytes)) {
    if (failed_) return *failed_;
    unfinished_ = taken_;
    return fail("the message is cut: the file ends after " + std::to_string(taken_) + " of its " +
                std::to_string(length) + " bytes");
  }
  const std::span<const std::uint8_t> body(body_bytes_.bytes.data(), body_bytes_.size);
  if (kChecked && rows_checksum(body) != head->checksum) {
    return fail("the checksum of the batch is wrong: its bytes were changed");
  }
  // Numbers between two batches were all filtered or torn, which a `rows` line counts; a batch that
  // is missing shows in "delivered".
  if (chained_ && head->first_seq < batch_.next_seq) {
    return fail("the batch begins at seq " + std::to_string(head->first_seq) +
                ", but the one before it ends at " + std::to_string(batch_.next_seq));
  }
  if (chained_ && head->delivered != batch_.delivered + head->rows) {
    return fail("\"" + std::string(arrow::kDeliveredKey) + "\" is " +
                std::to_string(head->delivered) + ", but the batches before it make " +
                std::to_string(batch_.delivered + head->rows));
  }
  const auto rows = body_.read(body, *head, *schema_, limits);
  if (!rows) return fail(rows.error());
  batch_ = {.first_seq = head->first_seq,
            .next_seq = head->next_seq,
            .delivered = head->delivered,
            .number = batch_.number + 1,
            .begin_byte = offset_,
            .end_byte = offset_ + length,
            .rows = *rows};
  chained_ = true;
  offset_ += length;
  return &batch_;
}

Result<void> RowsFile::skip_to(std::uint64_t byte) {
  if (const auto known = schema(); !known) return known.error();
  if (byte <= offset_) return {};
  if (!source_.skip(byte - offset_)) return fail(source_.error());
  offset_ = byte;
  chained_ = false;
  return {};
}

}  // namespace moetrace::trace
