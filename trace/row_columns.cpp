#include "trace/row_columns.hpp"

#include <cstring>

namespace moetrace::trace {
namespace {

template <class T>
void copy(std::span<const T> from, T* to) {
  if (!from.empty()) std::memcpy(to, from.data(), from.size_bytes());
}

}  // namespace

void append_rows(const RowRun& run, moetrace_reader_rows& rows) {
  if (run.size() == 0) return;
  const size_t at = rows.count;
  const size_t ids_count = run.expert_ids.size();
  const size_t top_k = ids_count / run.size();
  copy(run.request, rows.request + at);
  copy(run.step, rows.step + at);
  copy(run.token_idx, rows.token_idx + at);
  copy(run.seq, rows.seq + at);
  static_assert(kMaxLayers <= INT16_MAX, "a layer is the same number in both types");
  std::memcpy(rows.layer + at, run.layer.data(), run.layer.size_bytes());
  copy(run.weights, rows.weights + at * top_k);
  // Not through the span: loops with its checks are not vectorised.
  const uint16_t* const from = run.expert_ids.data();
  int32_t* const to = rows.ids + at * top_k;
  for (size_t n = 0; n < ids_count; ++n) to[n] = from[n] == kNoExpert ? -1 : int32_t{from[n]};
  rows.count += run.size();
}

}  // namespace moetrace::trace
