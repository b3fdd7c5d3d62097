// The rows of the next message of a rows file, by column. The rows of a step have the same places,
// requests and positions, in each layer: they are kept once a step, and the rest once a run.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "daemon/collector/rows_form.hpp"

namespace moetrace {

class RowBatch {
 public:
  // Rows of one step and layer, with consecutive `seq`.
  struct Run {
    std::uint32_t rows;
    // Numbers left out before the first row.
    std::uint32_t skipped;
    std::uint64_t step;
    // Of the first row, in requests() and token_idx(); the others follow there.
    std::uint32_t place;
    std::uint16_t layer;
  };
  // A request or a position that is not known: null.
  static constexpr std::uint64_t kUnknown = ~std::uint64_t{0};

  explicit RowBatch(const RowsForm& form) : form_(form) {}

  const RowsForm& form() const { return form_; }
  // Empties it. The next row counts from `first_seq`.
  void begin(std::uint64_t first_seq);

  bool in_step(std::uint64_t step) const { return step == step_; }
  // The places of a step's rows, for the caller to fill.
  struct Places {
    std::span<std::uint64_t> requests;
    std::span<std::uint64_t> token_idx;
  };
  Places begin_step(std::uint64_t step, std::uint32_t rows);
  // The numbers of the step are small enough for the columns. Otherwise a wide part must begin.
  bool step_fits() const;

  // Where the ids and weights of new rows go: top_k of each a row.
  struct Room {
    std::uint16_t* ids;
    float* weights;
  };
  // Adds the rows [row, row + count) of the step, of which the first has the number `seq`. Valid
  // until the next call. There is room for MOETRACE_MAX_TOP_K more of each after the last row.
  Room add(std::uint32_t row, std::uint32_t count, std::uint16_t layer, std::uint64_t seq);

  std::uint32_t rows() const { return rows_; }
  bool empty() const { return rows_ == 0; }
  std::uint64_t first_seq() const { return first_seq_; }
  const std::vector<Run>& runs() const { return runs_; }
  const std::uint64_t* requests() const { return requests_.data(); }
  const std::uint64_t* token_idx() const { return token_idx_.data(); }
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
  // The last step, and where its places begin.
  std::optional<std::uint64_t> step_;
  std::size_t step_place_ = 0;
  std::vector<std::uint64_t> requests_;
  std::vector<std::uint64_t> token_idx_;
  // They only grow.
  std::vector<std::uint16_t> ids_;
  std::vector<float> weights_;
};

}  // namespace moetrace
