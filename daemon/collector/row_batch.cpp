#include "daemon/collector/row_batch.hpp"

#include <algorithm>
#include <cassert>
#include <limits>

#include "shm/abi.h"

namespace moetrace {

void RowBatch::begin(std::uint64_t first_seq) {
  first_seq_ = next_seq_ = first_seq;
  rows_ = 0;
  runs_.clear();
}

bool RowBatch::fits(std::uint64_t request, std::uint64_t token_idx, std::uint64_t step) const {
  constexpr std::uint64_t kMost = std::numeric_limits<std::uint32_t>::max();
  constexpr std::uint64_t kMostToken = std::numeric_limits<std::int32_t>::max();
  return form_.wide || ((request <= kMost || request == kUnknown) &&
                        (token_idx <= kMostToken || token_idx == kUnknown) && step <= kMost);
}

RowBatch::Room RowBatch::add(Run run, std::uint64_t seq) {
  assert(seq >= next_seq_);
  run.skipped = static_cast<std::uint32_t>(seq - next_seq_);
  next_seq_ = seq + run.rows;
  const std::size_t at = std::size_t{rows_} * form_.top_k;
  rows_ += run.rows;
  const std::size_t items = std::size_t{rows_} * form_.top_k + MOETRACE_MAX_TOP_K;
  if (ids_.size() < items) {
    ids_.resize(std::max(items, 2 * ids_.size()));
    weights_.resize(ids_.size());
  }
  Run* last = runs_.empty() ? nullptr : &runs_.back();
  const bool continues =
      last != nullptr && run.skipped == 0 && last->step == run.step && last->layer == run.layer &&
      last->request == run.request &&
      run.token_idx == (last->token_idx == kUnknown ? kUnknown : last->token_idx + last->rows);
  if (continues) {
    last->rows += run.rows;
  } else {
    runs_.push_back(run);
  }
  return {ids_.data() + at, weights_.data() + at};
}

void RowBatch::cut_to(std::uint32_t rows) {
  assert(rows <= rows_);
  while (rows_ > rows) {
    Run& last = runs_.back();
    const std::uint32_t off = std::min(rows_ - rows, last.rows);
    rows_ -= off;
    next_seq_ -= off;
    last.rows -= off;
    if (last.rows > 0) break;
    next_seq_ -= last.skipped;
    runs_.pop_back();
  }
}

}  // namespace moetrace
