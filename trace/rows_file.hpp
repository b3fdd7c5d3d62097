// A rows file (FORMAT.md, "Rows as Arrow"), a batch at a time: framing, checksums and sequence.
// What its rows mean together with the lines beside it is rows_merge.hpp's.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "trace/arrow_body.hpp"
#include "trace/arrow_message.hpp"
#include "trace/byte_source.hpp"
#include "trace/errors.hpp"
#include "trace/trace_lines.hpp"

namespace moetrace::trace {

struct RowsBatch {
  std::uint64_t first_seq = 0;
  std::uint64_t next_seq = 0;   // of the batch after it
  std::uint64_t delivered = 0;  // rows of the trace up to and with this batch
  std::uint64_t number = 0;     // in the file, from 1; after skip_to() from there
  std::uint64_t begin_byte = 0;
  std::uint64_t end_byte = 0;
  RowRun rows;  // valid until the next batch is read
};

// Whether a file that begins with these bytes (8 decide) may be a rows file: its first message has
// a possible length.
bool begins_rows_file(std::span<const std::uint8_t> first);
// The same of the file at `path`.
bool is_rows_file(const std::string& path);

// What arrow::kChecksumKey says of a message's body.
std::uint64_t rows_checksum(std::span<const std::uint8_t> body);

class RowsFile {
 public:
  // Compressed ones are unpacked; places are bytes of what was compressed. Errors: kOpen, kRead.
  static Result<RowsFile> open(const std::string& path);
  // Reads a copy of the descriptor from its start. The message is the "why" alone.
  static Result<RowsFile> of(int fd);

  // Reads the first message once. Errors of this and of next(): kRead and kBadRows; the message is
  // "byte N: why". After an error the file is spent.
  Result<const RowsSchema*> schema();
  // The batch after the last one that ends at byte `end` or before; nullptr: there is none.
  // Checks that batches follow each other.
  Result<const RowsBatch*> next(const RowsLimits& limits, std::uint64_t end = UINT64_MAX);
  // Goes on at byte `byte`, where a batch begins, at or after offset().
  Result<void> skip_to(std::uint64_t byte);

  // Bytes of whole messages that were read.
  [[nodiscard]] std::uint64_t offset() const { return offset_; }
  [[nodiscard]] std::uint64_t batches() const { return batch_.number; }
  // The last error was a message whose end is missing: it has this many bytes.
  [[nodiscard]] std::optional<std::uint64_t> unfinished() const { return unfinished_; }

 private:
  explicit RowsFile(ByteSource source) : source_(std::move(source)) {}

  struct Room {
    std::vector<std::uint8_t> bytes;  // at least `size`
    std::size_t size = 0;
  };
  // False: the file ends before, or reading failed, which is in failed_.
  bool fill(Room& room, std::uint64_t size);
  // The metadata of the next message; false: the file ends here, or failed_.
  bool read_metadata(std::uint64_t end);
  Error fail(Error error);
  Error fail(std::string why);

  ByteSource source_;
  std::optional<RowsSchema> schema_;
  RowsBody body_;
  Room metadata_;
  Room body_bytes_;
  RowsBatch batch_;
  bool chained_ = false;  // batch_ is the one before the next
  std::uint64_t offset_ = 0;
  std::uint64_t taken_ = 0;  // bytes of the message that is being read
  std::optional<std::uint64_t> unfinished_;
  std::optional<Error> failed_;
};

}  // namespace moetrace::trace
