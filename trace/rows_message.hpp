// A message of topic `rows` (FORMAT.md, "ZeroMQ"): an Arrow stream of one batch, in memory.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "trace/arrow_body.hpp"
#include "trace/arrow_message.hpp"
#include "trace/errors.hpp"
#include "trace/trace_lines.hpp"

namespace moetrace::trace {

// Keeps the columns of one message, and the room for the next ones.
class RowsMessage {
 public:
  // Checks the whole message, also against the meta line of its trace. The rows are valid until the
  // next call. Errors: kBadRows, kMismatch; the message is the "why" alone.
  Result<RowRun> read(std::span<const std::uint8_t> message, const Meta& meta,
                      const RowsLimits& limits);

 private:
  // The metadata of the next message in bytes_, and past it.
  Result<std::span<const std::uint8_t>> next_metadata();

  // A copy, because its parts must be aligned.
  std::vector<std::uint8_t> bytes_;
  std::size_t at_ = 0;
  RowsBody body_;
};

}  // namespace moetrace::trace
