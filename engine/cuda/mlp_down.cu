#include "engine/cuda/fused_block.cuh"

namespace moetrace::engine::gpu {

namespace {

// The grid is one block a tile, so about one block an SM: a block needs more warps than in the
// other fused kernels. Each lane's ring also holds x.
constexpr int kDownWarps = 16;
constexpr int kDownThreads = kDownWarps * 32;
constexpr int kDownDepth = 4;

// A warp's walk through the columns of mlp_down in chunks of 32: first the shared expert's columns,
// then those of one slot after another. The warp takes every kDownWarps-th chunk. The walk is ahead
// of the sums by the depth of the ring.
struct DownWalk {
  const bfloat16* upper;  // of this lane, at its column
  const bfloat16* lower;
  const bfloat16* x;
  int column;  // of this lane
  int width;   // columns of the shared expert, or of a slot
  int slot;    // -1: the shared expert

  __device__ void step(const MlpDown& a, const int* experts, int slots, const StreamLane& lane,
                       size_t upper_row, size_t lower_row) {
    constexpr int kApart = kDownWarps * kChunk;
    column += kApart;
    upper += kApart, lower += kApart, x += kApart;
    const int chunked = (width + kChunk - 1) / kChunk * kChunk;
    if (column - lane.t * 8 < chunked) return;
    int over = column - chunked;
    const int slot_chunked = (a.inner + kChunk - 1) / kChunk * kChunk;
    ++slot;
    for (; over >= slot_chunked && slot < slots; over -= slot_chunked) ++slot;
    column = over;
    width = a.inner;
    if (slot >= slots) return;
    const bfloat16* of = a.down + static_cast<size_t>(experts[slot]) * a.size * a.inner;
    upper = of + upper_row * a.inner + column;
    lower = of + lower_row * a.inner + column;
    x = a.act + static_cast<size_t>(slot * kFusedRows + lane.g) * a.inner + column;
  }
};

// A block computes a tile of 16 outputs, over the columns of the shared expert and of all slots.
__global__ __launch_bounds__(kDownThreads) void mlp_down_kernel(MlpDown a, int rows) {
  const StreamLane lane;
  auto* sums = reinterpret_cast<TileSums<kDownWarps>*>(shared_memory);
  int* experts = reinterpret_cast<int*>(sums + 1);
  const int tile_row = static_cast<int>(blockIdx.x) * kTileRows;
  const auto upper_row = static_cast<size_t>(min(tile_row + lane.g, a.size - 1));
  const auto lower_row = static_cast<size_t>(min(tile_row + lane.g + 8, a.size - 1));
  const int first = lane.warp * kChunk + lane.t * 8;
  uint4 upper[kDownDepth], lower[kDownDepth], x[kDownDepth];
  int slot_of[kDownDepth];

  // The shared expert's part of the first lap depends on no earlier kernel.
  const bfloat16* shared_upper = a.shared_down + upper_row * a.shared_inner;
  const bfloat16* shared_lower = a.shared_down + lower_row * a.shared_inner;
#pragma unroll
  for (int i = 0; i < kDownDepth; ++i) {
    const int at = first + i * kDownWarps * kChunk;
    upper[i] = load_weights(shared_upper + at, at < a.shared_inner);
    lower[i] = load_weights(shared_lower + at, at < a.shared_inner);
  }
  let_next_start();
  wait_for_previous();

  const int slots = a.logits != nullptr ? *a.slots.count : 0;
  for (int i = static_cast<int>(threadIdx.x); i < slots; i += kDownThreads)
    experts[i] = a.slots.expert[i];
  float shared_scale[2] = {1.0f, 1.0f};  // of columns 2t and 2t + 1
  if (a.logits != nullptr) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int row = 2 * lane.t + i;
      if (row < rows) shared_scale[i] = sigmoid(a.logits[row * a.logit_columns + a.experts]);
    }
  }
  __syncthreads();

  DownWalk walk{shared_upper + first,
                shared_lower + first,
                a.shared_act + lane.g * a.shared_inner + first,
                first,
                a.shared_inner,
                -1};
  if (lane.warp * kChunk >= (a.shared_inner + kChunk - 1) / kChunk * kChunk) {
    // The shared expert is so narrow that this warp has none of its chunks: start in the slots.
    walk.column -= kDownWarps * kChunk;
    walk.step(a, experts, slots, lane, upper_row, lower_row);
  }
  const auto load = [&](int i, bool weights_too) {
    const bool there = walk.slot < slots && walk.column < walk.width;
    slot_of[i] = walk.slot;
    if (weights_too) {
      upper[i] = load_weights(walk.upper, there);
      lower[i] = load_weights(walk.lower, there);
    }
    x[i] =
        there && lane.g < rows ? *reinterpret_cast<const uint4*>(walk.x) : make_uint4(0, 0, 0, 0);
    walk.step(a, experts, slots, lane, upper_row, lower_row);
  };
#pragma unroll
  for (int i = 0; i < kDownDepth; ++i) load(i, walk.slot >= 0);

  float c[4] = {};
  bool scaled = false;
  const auto scale = [&] {
    c[0] *= shared_scale[0], c[1] *= shared_scale[1];
    c[2] *= shared_scale[0], c[3] *= shared_scale[1];
    scaled = true;
  };
  while (slot_of[0] < slots) {
#pragma unroll
    for (int i = 0; i < kDownDepth; ++i) {
      if (slot_of[i] >= 0 && !scaled) scale();
      multiply_chunk(c, upper[i], lower[i], x[i]);
      load(i, true);
    }
  }
  if (!scaled) scale();
  sums->put(lane, c);
  __syncthreads();
  const int x_row = static_cast<int>(threadIdx.x) / kTileRows;
  const int column = tile_row + static_cast<int>(threadIdx.x) % kTileRows;
  if (x_row < rows && column < a.size)
    a.hidden[static_cast<size_t>(x_row) * a.size + column] += sums->sum(column % kTileRows, x_row);
}

}  // namespace

void mlp_down(const MlpDown& down, int rows, bool chained, cudaStream_t stream) {
  const size_t slots = down.logits != nullptr ? static_cast<size_t>(down.experts) : 0;
  launch(mlp_down_kernel, chained, (down.size + kTileRows - 1) / kTileRows, kDownThreads,
         sizeof(TileSums<kDownWarps>) + slots * sizeof(int), stream, down, rows);
}

}  // namespace moetrace::engine::gpu
