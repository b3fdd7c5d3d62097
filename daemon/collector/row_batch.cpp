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
  step_.reset();
  requests_.clear();
  token_idx_.clear();
}

RowBatch::Places RowBatch::begin_step(std::uint64_t step, std::uint32_t rows) {
  step_ = step;
  step_place_ = requests_.size();
  requests_.resize(step_place_ + rows, kUnknown);
  token_idx_.resize(step_place_ + rows, kUnknown);
  return {std::span(requests_).subspan(step_place_), std::span(token_idx_).subspan(step_place_)};
}

bool RowBatch::step_fits() const {
  if (form_.wide) return true;
  const auto all_of_step = [&](const std::vector<std::uint64_t>& numbers, std::uint64_t most) {
    return std::all_of(
        numbers.begin() + static_cast<std::ptrdiff_t>(step_place_), numbers.end(),
        [most](std::uint64_t number) { return number <= most || number == kUnknown; });
  };
  constexpr std::uint64_t kMost = std::numeric_limits<std::uint32_t>::max();
  constexpr std::uint64_t kMostToken = std::numeric_limits<std::int32_t>::max();
  return *step_ <= kMost && all_of_step(requests_, kMost) && all_of_step(token_idx_, kMostToken);
}

RowBatch::Room RowBatch::add(std::uint32_t row, std::uint32_t count, std::uint16_t layer,
                             std::uint64_t seq) {
  assert(seq >= next_seq_ && step_place_ + row + count <= requests_.size());
  const auto place = static_cast<std::uint32_t>(step_place_ + row);
  const auto skipped = static_cast<std::uint32_t>(seq - next_seq_);
  next_seq_ = seq + count;
  const std::size_t at = std::size_t{rows_} * form_.top_k;
  rows_ += count;
  const std::size_t items = std::size_t{rows_} * form_.top_k + MOETRACE_MAX_TOP_K;
  if (ids_.size() < items) {
    ids_.resize(std::max(items, 2 * ids_.size()));
    weights_.resize(ids_.size());
  }
  Run* last = runs_.empty() ? nullptr : &runs_.back();
  if (last != nullptr && skipped == 0 && last->step == *step_ && last->layer == layer &&
      last->place + last->rows == place) {
    last->rows += count;
  } else {
    runs_.push_back(
        {.rows = count, .skipped = skipped, .step = *step_, .place = place, .layer = layer});
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
