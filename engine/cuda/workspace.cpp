#include "engine/cuda/workspace.hpp"

#include <algorithm>
#include <cstdint>

namespace moetrace::engine::gpu {

namespace {

DeviceMemory numbers(NumberType type, int64_t count) {
  return DeviceMemory(static_cast<size_t>(count) * bytes_of(type));
}

template <class T>
DeviceArray<T> zeros(int64_t count, cudaStream_t stream) {
  DeviceArray<T> array(count);
  check(cudaMemsetAsync(array.get(), 0, static_cast<size_t>(count) * sizeof(T), stream), "zeros");
  return array;
}

}  // namespace

Workspace::Workspace(const ModelConfig& c, NumberType type, int64_t most_rows,
                     int64_t most_logit_rows, cudaStream_t stream)
    : rows(most_rows), logit_rows(most_logit_rows) {
  const int64_t pairs = rows * c.top_k;
  const int64_t inner = std::max(c.shared_intermediate_size, c.dense_intermediate_size);
  slots = DeviceArray<RowSlot>(rows);
  tiles = DeviceArray<RowTile>(rows);
  logits_of = DeviceArray<int32_t>(logit_rows);
  host_slots = PinnedArray<RowSlot>(rows);
  host_tiles = PinnedArray<RowTile>(rows);
  host_logits_of = PinnedArray<int32_t>(logit_rows);
  best = DeviceArray<unsigned long long>(rows);
  host_best = PinnedArray<unsigned long long>(rows);
  logits = DeviceArray<float>(logit_rows * c.vocab_size);
  ids = DeviceArray<int32_t>(c.num_layers * pairs);
  weights = DeviceArray<float>(c.num_layers * pairs);

  hidden = DeviceArray<float>(rows * c.hidden_size);
  normed = numbers(type, rows * c.hidden_size);
  qkv = DeviceArray<float>(rows * (c.num_heads + 2 * c.num_kv_heads) * c.head_dim);
  attended = numbers(type, rows * c.num_heads * c.head_dim);
  const int64_t splits = attention_splits(1, static_cast<int>(c.num_heads));
  // The fewer the rows, the more splits: rows * splits stays within this maximum.
  attention_parts = DeviceArray<float>(std::max(rows, std::min<int64_t>(rows, 264) * splits) *
                                       c.num_heads * (c.head_dim + 2));
  attention_arrived = zeros<uint32_t>(rows * c.num_heads, stream);
  router_logits = DeviceArray<float>(rows * logit_columns(c.num_experts));
  shared_gate_up = DeviceArray<float>(rows * 2 * inner);
  shared_act = numbers(type, rows * inner);
  shared_out = DeviceArray<float>(rows * c.hidden_size);
  act = numbers(type, pairs * (rows <= kFusedRows ? kFusedRows : 1) * c.moe_intermediate_size);
  routed = DeviceArray<float>(pairs * c.hidden_size);
  order = DeviceArray<int32_t>(pairs);
  items =
      DeviceArray<WorkItem>(most_items(static_cast<int>(pairs), static_cast<int>(c.num_experts)));
  item_count = DeviceArray<int32_t>(1);
  slot_count = DeviceArray<int32_t>(1);
  slot_expert = DeviceArray<int32_t>(pairs);
  slot_weight = DeviceArray<float>(pairs * kFusedRows);
  router_arrived = zeros<uint32_t>(1, stream);
  padding_cache = DeviceMemory(cache_bytes(c, type, 1));
}

size_t cache_bytes(const ModelConfig& c, NumberType type, int64_t capacity) {
  return static_cast<size_t>(2 * c.num_layers * c.num_kv_heads * capacity * c.head_dim) *
         bytes_of(type);
}

}  // namespace moetrace::engine::gpu
