#include "engine/cuda/fused_block.cuh"

namespace moetrace::engine::gpu {

namespace {

__global__ __launch_bounds__(kStreamThreads, kBlocksPerSm) void dense_gemv_kernel(DenseGemv a,
                                                                                  int rows) {
  const StreamLane lane;
  const int stride = stream_stride(a.in);
  bfloat16* x = shared_x();
  TileSums<kStreamWarps>* sums = shared_sums(rows, stride);
  const int tiles = (a.out + kTileRows - 1) / kTileRows;
  // Rows past the end read the last row again; their results are not stored.
  const auto row_at = [&](int tile, int row) {
    return a.weight + static_cast<size_t>(min(tile * kTileRows + row, a.out - 1)) * a.in;
  };
  int tile = static_cast<int>(blockIdx.x);
  const bfloat16* upper = row_at(tile, lane.g);
  const bfloat16* lower = row_at(tile, lane.g + 8);
  WeightRing<kDepth> ring;
  ring.fill(lane, upper, lower, a.in);
  prefetch(a.norm, a.in);
  let_next_start();
  wait_for_previous();
  if (a.norm != nullptr) {
    stage_normed(x, stride, a.hidden, a.norm, a.epsilon, a.in, rows, sums);
  } else {
    stage(x, stride, a.x, a.in, rows);
  }
  while (tile < tiles) {
    float c[4] = {};
    ring.consume(lane, upper, lower, a.in, x, stride, rows, c);
    const int next = tile + static_cast<int>(gridDim.x);
    if (next < tiles) {
      upper = row_at(next, lane.g);
      lower = row_at(next, lane.g + 8);
      ring.fill(lane, upper, lower, a.in);
    }
    sums->put(lane, c);
    __syncthreads();
    const int x_row = static_cast<int>(threadIdx.x) / kTileRows;
    const int column = tile * kTileRows + static_cast<int>(threadIdx.x) % kTileRows;
    if (x_row < rows && column < a.out) {
      float* y = a.y + static_cast<size_t>(x_row) * a.out + column;
      const float value = sums->sum(column % kTileRows, x_row);
      *y = a.accumulate ? *y + value : value;
    }
    __syncthreads();
    tile = next;
  }
}

}  // namespace

void dense_gemv(const DenseGemv& gemv, int rows, bool chained, cudaStream_t stream) {
  const int tiles = (gemv.out + kTileRows - 1) / kTileRows;
  launch_fused(dense_gemv_kernel, chained, tiles, shared_bytes(rows, gemv.in, 0), stream, gemv,
               rows);
}

bool fused_decode_fits(int64_t widest_input, int64_t experts, int64_t top_k) {
  return top_k <= 32 && widest_input <= 1 << 14 && experts <= 1 << 12 &&
         shared_bytes(kFusedRows, static_cast<int>(widest_input), static_cast<int>(experts)) <=
             kMostShared;
}

}  // namespace moetrace::engine::gpu
