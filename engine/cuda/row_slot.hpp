// The kernels' view of a pass: its rows, and the tiles of prefill attention.
#pragma once

#include <cstdint>

namespace moetrace::engine::gpu {

// A row: its token, and its place in the cache of its sequence. A cache holds the keys [layers, kv
// heads, capacity, head_dim], followed by the values of the same shape.
struct RowSlot {
  void* cache;
  int32_t capacity;  // positions
  int32_t position;  // of this row in its sequence, below capacity
  int32_t token;
  int32_t unused;  // padding
};

// Rows of one sequence at consecutive positions: a tile of prefill attention.
struct RowTile {
  int32_t first_row;
  int32_t rows;
};

}  // namespace moetrace::engine::gpu
