#include "daemon/collector/live_rows.hpp"

namespace moetrace {
namespace {

// At least this long from message to message, unless a step is over or the message is full: a step
// on a CPU comes a layer at a time. It leaves half of the promised millisecond for the collector's
// pause.
constexpr auto kInterval = std::chrono::microseconds(500);
// Messages stay short (xpub_socket.hpp).
constexpr std::uint32_t kMostRows = 1024;

// Wide, so that one schema serves the whole trace.
RowsForm form_of(std::uint32_t top_k, std::uint32_t num_experts) {
  return {
      .top_k = top_k, .num_experts = num_experts, .weights = RowWeights::kFloat32, .wide = true};
}

}  // namespace

// A message belongs to no part of the trace: it says 1.
LiveRows::LiveRows(std::uint32_t top_k, std::uint32_t num_experts, std::string_view trace_id)
    : schema_(schema_message(form_of(top_k, num_experts), trace_id, 1)),
      encoder_(RowCompression::kNone),
      batch_(form_of(top_k, num_experts)) {}

void LiveRows::begin(std::uint64_t next_seq) {
  batch_.begin(next_seq);
  known_.clear();
  names_ = "{";
}

void LiveRows::want(bool wanted, std::uint64_t next_seq) {
  if (!wanted || !wanted_) begin(next_seq);
  wanted_ = wanted;
}

void LiveRows::add_name(std::uint64_t request, std::string_view json_id) {
  if (names_.size() > 1) names_ += ',';
  names_ += '"';
  names_ += std::to_string(request);
  names_ += "\":";
  names_ += json_id;
}

bool LiveRows::due(bool step_over) {
  if (batch_.empty()) return false;
  if (step_over || batch_.rows() >= kMostRows) return true;
  return Clock::now() - taken_ >= kInterval;
}

LiveMessage LiveRows::take(const RunningTotals& totals) {
  LiveMessage message;
  message.stream = schema_;
  message.stream += encoder_.encode(batch_, totals.next_seq(), totals.delivered());
  message.requests = std::move(names_) + "}";
  message.first_seq = batch_.first_seq() + batch_.runs().front().skipped;
  message.rows = batch_.rows();
  message.totals = totals;
  begin(totals.next_seq());
  taken_ = Clock::now();
  return message;
}

}  // namespace moetrace
