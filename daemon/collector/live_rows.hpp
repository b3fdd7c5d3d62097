// Rows for subscribers to topic `rows`, cut separately from the files: a message goes out within a
// millisecond of its first row, whatever the files wait for (FORMAT.md, "ZeroMQ").
#pragma once

#include <boost/unordered/unordered_flat_set.hpp>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "daemon/collector/arrow_message.hpp"
#include "daemon/collector/row_batch.hpp"
#include "daemon/collector/running_totals.hpp"

namespace moetrace {

// A message of topic `rows`.
struct LiveMessage {
  // An Arrow stream by itself: the schema, then one record batch.
  std::string stream;
  // A JSON object with the names of the batch's requests, by number.
  std::string requests;
  std::uint64_t first_seq = 0;
  std::uint64_t rows = 0;
  // After the last row.
  RunningTotals totals;
};

class LiveRows {
 public:
  using Clock = std::chrono::steady_clock;

  // Messages with the columns of every trace with this top_k and number of experts.
  LiveRows(std::uint32_t top_k, std::uint32_t num_experts, std::string_view trace_id);

  // Before each pass: whether anyone subscribes, and the number of the next row. What waits is
  // dropped if nobody does.
  void want(bool wanted, std::uint64_t next_seq);
  bool wanted() const { return wanted_; }

  // Where the next rows go, and the names of their requests. Only if wanted().
  RowBatch& batch() { return batch_; }
  // `json_id`: a JSON string.
  void name(std::uint64_t request, std::string_view json_id) {
    if (known_.insert(request).second) add_name(request, json_id);
  }

  // Rows that wait. Drops those after the first `rows`.
  std::uint32_t rows() const { return batch_.rows(); }
  void cut_to(std::uint32_t rows) { batch_.cut_to(rows); }

  // Whether a message shall go out. `step_over`: no more rows of this step will come.
  bool due(bool step_over);
  // The rows that wait, at least one. `totals`: of the trace, with them.
  LiveMessage take(const RunningTotals& totals);

 private:
  void begin(std::uint64_t next_seq);
  void add_name(std::uint64_t request, std::string_view json_id);

  std::string schema_;
  BatchEncoder encoder_;
  RowBatch batch_;
  bool wanted_ = false;
  // When the last message was taken.
  Clock::time_point taken_;
  // The requests that have their names in names_, JSON without its last brace.
  boost::unordered_flat_set<std::uint64_t> known_;
  std::string names_;
};

}  // namespace moetrace
