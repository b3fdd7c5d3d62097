// What the kernels know of a row of a pass.
#pragma once

#include <cstdint>

namespace moetrace::engine::gpu {

// A sequence's cache: keys [layers, kv heads, capacity, head_dim], behind them the values likewise.
struct RowSlot {
  void* cache;
  int32_t capacity;  // positions
  int32_t position;  // of this row in its sequence, below capacity
  int32_t token;
  int32_t unused;
};

// Rows of one sequence, at consecutive positions, that prefill attention takes together.
struct RowTile {
  int32_t first_row;
  int32_t rows;
};

}  // namespace moetrace::engine::gpu
