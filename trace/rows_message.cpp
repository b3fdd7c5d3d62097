#include "trace/rows_message.hpp"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cstring>
#include <string>

namespace moetrace::trace {
namespace {

#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
constexpr bool kChecksums = false;
#else
constexpr bool kChecksums = true;
#endif

Error bad_message(std::string why) {
  return {ErrorCode::kBadRows, std::move(why)};
}

}  // namespace

Result<std::span<const std::uint8_t>> RowsMessage::next_metadata() {
  std::uint32_t prefix[2];
  static_assert(sizeof prefix == arrow::kPrefixBytes);
  if (bytes_.size() - at_ < sizeof prefix) return bad_message("an Arrow message is missing");
  std::memcpy(prefix, bytes_.data() + at_, sizeof prefix);
  at_ += sizeof prefix;
  const std::uint32_t length = prefix[1];
  if (prefix[0] != arrow::kContinuation) return bad_message("it is not an Arrow stream");
  if (length % arrow::kAlignment != 0 || length > arrow::kMaxMetadataBytes ||
      length > bytes_.size() - at_)
    return bad_message("an Arrow message in it is cut");
  const std::span<const std::uint8_t> metadata(bytes_.data() + at_, length);
  at_ += length;
  return metadata;
}

Result<RowRun> RowsMessage::read(std::span<const std::uint8_t> message, const Meta& meta,
                                 const RowsLimits& limits) {
  bytes_.assign(message.begin(), message.end());
  at_ = 0;
  const auto first = next_metadata();
  if (!first) return first.error();
  const auto schema = read_rows_schema(*first);
  if (!schema) return schema.error();
  if (schema->trace_id != meta.trace_id)
    return Error{ErrorCode::kMismatch, "its rows are of trace " + schema->trace_id};
  if (schema->top_k != meta.top_k) {
    return Error{ErrorCode::kMismatch, "its rows have top_k " + std::to_string(schema->top_k) +
                                           ", the meta line " + std::to_string(meta.top_k)};
  }
  const auto second = next_metadata();
  if (!second) return second.error();
  const auto head = read_rows_batch(*second, *schema);
  if (!head) return head.error();
  const std::span<const std::uint8_t> body(bytes_.data() + at_, bytes_.size() - at_);
  if (body.size() != head->body_bytes) {
    return bad_message("its batch has " + std::to_string(body.size()) + " bytes instead of " +
                       std::to_string(head->body_bytes));
  }
  if (kChecksums && XXH3_64bits(body.data(), body.size()) != head->checksum)
    return bad_message("the checksum of its batch is wrong");
  return body_.read(body, *head, *schema, limits);
}

}  // namespace moetrace::trace
