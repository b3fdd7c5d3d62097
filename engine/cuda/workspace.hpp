// The buffers of a forward pass: inputs, outputs and activations.
#pragma once

#include "engine/config.hpp"
#include "engine/cuda/attention_kernels.hpp"
#include "engine/cuda/device_array.hpp"
#include "engine/cuda/fused_decode.hpp"
#include "engine/cuda/row_kernels.hpp"

namespace moetrace::engine::gpu {

// For passes of at most `rows` rows, and logits of at most `logit_rows` of them. The addresses
// never change, so a captured graph may keep them.
struct Workspace {
  // Throws CudaError.
  Workspace(const ModelConfig& config, NumberType type, int64_t rows, int64_t logit_rows,
            cudaStream_t stream);

  int64_t rows;
  int64_t logit_rows;

  // Inputs, copied before each pass.
  DeviceArray<RowSlot> slots;       // [rows]
  DeviceArray<RowTile> tiles;       // [rows]: prefill only
  DeviceArray<int32_t> logits_of;   // [logit_rows]: prefill only, rows whose logits are wanted
  PinnedArray<RowSlot> host_slots;  // the host's side of the copies
  PinnedArray<RowTile> host_tiles;
  PinnedArray<int32_t> host_logits_of;
  // Outputs.
  DeviceArray<unsigned long long> best;  // [rows]
  PinnedArray<unsigned long long> host_best;
  DeviceArray<float> logits;  // [logit_rows, vocab]
  // [layers, rows, top_k]: the routing. Each layer has arrays of its own, as hooks read them until
  // the pass ends.
  DeviceArray<int32_t> ids;
  DeviceArray<float> weights;

  DeviceArray<float> hidden;  // [rows, hidden]: the residual stream
  DeviceMemory normed;        // [rows, hidden]
  DeviceArray<float> qkv;     // [rows, (heads + 2 * kv_heads) * head_dim]
  DeviceMemory attended;      // [rows, heads * head_dim]
  DeviceArray<float> attention_parts;
  DeviceArray<uint32_t> attention_arrived;
  DeviceArray<float> router_logits;      // [rows, logit_columns]
  DeviceArray<float> shared_gate_up;     // [rows, 2 * shared inner]
  DeviceMemory shared_act;               // [rows, shared inner]
  DeviceArray<float> shared_out;         // [rows, hidden]
  DeviceMemory act;                      // [rows * top_k, inner]; fused: kFusedRows times that
  DeviceArray<float> routed;             // [rows * top_k, hidden]
  DeviceArray<int32_t> order;            // [rows * top_k]
  DeviceArray<WorkItem> items;           // [most_items()]
  DeviceArray<int32_t> item_count;       // [1]
  DeviceArray<int32_t> slot_count;       // [1]; the next three: fused passes only
  DeviceArray<int32_t> slot_expert;      // [rows * top_k]
  DeviceArray<float> slot_weight;        // [rows * top_k, kFusedRows]
  DeviceArray<uint32_t> router_arrived;  // [1]
  DeviceMemory padding_cache;            // of one position; padding rows write to it

  Grouping grouping() const { return {order.get(), items.get(), item_count.get()}; }
  ExpertSlots expert_slots() const {
    return {slot_count.get(), slot_expert.get(), slot_weight.get()};
  }
};

// Bytes of a cache of `capacity` positions, in the layout of row_slot.hpp.
size_t cache_bytes(const ModelConfig& config, NumberType type, int64_t capacity);

}  // namespace moetrace::engine::gpu
