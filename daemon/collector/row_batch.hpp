// The rows of the next message of a rows file, by column. Rows that follow each other in one
// request share their place: it is kept once a run.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "daemon/collector/rows_form.hpp"

namespace moetrace {

class RowBatch {
 public:
  // Rows of one step, layer and request, at ascending positions, with consecutive `seq`.
  struct Run {
    std::uint32_t rows;
    // Numbers left out before the first row.
    std::uint32_t skipped;
    std::uint64_t step;
    // kUnknown: null. With an unknown position, all positions of the run are unknown.
    std::uint64_t request;
    std::uint64_t token_idx;
    std::uint16_t layer;
  };
  static constexpr std::uint64_t kUnknown = ~std::uint64_t{0};

  explicit RowBatch(const RowsForm& form) : form_(form) {}

  const RowsForm& form() const { return form_; }
  // Empties it. The next row counts from `first_seq`.
  void begin(std::uint64_t first_seq);
  // The numbers are small enough for the columns. Otherwise a wide part must begin.
  bool fits(std::uint64_t request, std::uint64_t token_idx, std::uint64_t step) const;

  // Where the ids and weights of new rows go: top_k of each a row.
  struct Room {
    std::uint16_t* ids;
    float* weights;
  };
  // Adds `run.rows` rows, of which the first has the number `seq`; computes `skipped`. Valid until
  // the next call. There is room for MOETRACE_MAX_TOP_K more of each after the last row.
  Room add(Run run, std::uint64_t seq);

  std::uint32_t rows() const { return rows_; }
  bool empty() const { return rows_ == 0; }
  std::uint64_t first_seq() const { return first_seq_; }
  const std::vector<Run>& runs() const { return runs_; }
  const std::uint16_t* ids() const { return ids_.data(); }
  const float* weights() const { return weights_.data(); }

  // Drops the rows after the first `rows`.
  void cut_to(std::uint32_t rows);

 private:
  RowsForm form_;
  std::uint64_t first_seq_ = 0;
  // The number after the last row.
  std::uint64_t next_seq_ = 0;
  std::uint32_t rows_ = 0;
  std::vector<Run> runs_;
  // They only grow.
  std::vector<std::uint16_t> ids_;
  std::vector<float> weights_;
};

}  // namespace moetrace
