#include "engine/cuda/fused_block.cuh"
#include "engine/cuda/router.cuh"

namespace moetrace::engine::gpu {

namespace {

// Routes each row, then lists the experts that are used. The last block to compute logits calls it.
__device__ void finish_routing(const RouterAndSharedUp& a, int rows, float* probabilities,
                               int* used) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (warp < rows) {
    float* mine = probabilities + warp * a.experts;
    for (int e = lane; e < a.experts; e += 32)
      mine[e] = __ldcg(a.logits + warp * a.logit_columns + e);
    __syncwarp();
    route_row(mine, a.experts, a.top_k, a.renormalize, a.ids + warp * a.top_k,
              a.weights + warp * a.top_k);
  }
  for (int e = static_cast<int>(threadIdx.x); e < a.experts; e += kStreamThreads) used[e] = 0;
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < rows * a.top_k; i += kStreamThreads)
    used[a.ids[i]] = 1;
  __syncthreads();
  if (threadIdx.x == 0) {
    int count = 0;
    for (int e = 0; e < a.experts; ++e) {
      if (used[e] != 0) a.slots.expert[count++] = e;
    }
    *a.slots.count = count;
    *a.arrived = 0;
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < *a.slots.count * kFusedRows;
       i += kStreamThreads) {
    const int expert = a.slots.expert[i / kFusedRows];
    const int row = i % kFusedRows;
    float weight = 0;
    for (int k = 0; row < rows && k < a.top_k; ++k) {
      if (a.ids[row * a.top_k + k] == expert) weight = a.weights[row * a.top_k + k];
    }
    a.slots.weight[i] = weight;
  }
}

// A tile is 16 rows of the router, or 8 rows of gate and the matching 8 rows of up.
__global__ __launch_bounds__(kStreamThreads,
                             kBlocksPerSm) void router_and_shared_up_kernel(RouterAndSharedUp a,
                                                                            int rows) {
  const StreamLane lane;
  const int thread = static_cast<int>(threadIdx.x);
  const int stride = stream_stride(a.size);
  bfloat16* x = shared_x();
  TileSums<kStreamWarps>* sums = shared_sums(rows, stride);
  float* probabilities = reinterpret_cast<float*>(sums + 1);
  int* used = reinterpret_cast<int*>(probabilities + rows * a.experts);
  __shared__ bool last;
  const int logits = a.router != nullptr ? a.logit_columns : 0;
  const int router_tiles = (logits + kTileRows - 1) / kTileRows;
  const int tiles = router_tiles + a.inner / 8;
  // The last blocks have the fewest tiles, so each takes a tile of the router as its first.
  const int first_router = static_cast<int>(gridDim.x) - router_tiles;
  const auto of_router = [&](int tile) {
    return tile >= first_router && tile < first_router + router_tiles;
  };
  const auto first_pair = [&](int tile) {
    return (tile < first_router ? tile : tile - router_tiles) * 8;
  };
  const auto row_at = [&](int tile, int row) {
    if (of_router(tile)) {
      const int column = min((tile - first_router) * kTileRows + row, logits - 1);
      return a.router + static_cast<size_t>(column) * a.size;
    }
    const int pair = first_pair(tile) + row % 8;
    return a.gate_up + static_cast<size_t>(row < 8 ? pair : a.inner + pair) * a.size;
  };
  int tile = static_cast<int>(blockIdx.x);
  const bfloat16* upper = row_at(tile, lane.g);
  const bfloat16* lower = row_at(tile, lane.g + 8);
  WeightRing<kDepth> ring;
  ring.fill(lane, upper, lower, a.size);
  prefetch(a.norm, a.size);
  let_next_start();
  wait_for_previous();
  stage_normed(x, stride, a.hidden, a.norm, a.epsilon, a.size, rows, sums);
  if (blockIdx.x == 0) {
    for (int i = thread * 8; i < rows * a.size; i += kStreamThreads * 8) {
      *reinterpret_cast<uint4*>(a.normed + i) =
          *reinterpret_cast<const uint4*>(x + i / a.size * stride + i % a.size);
    }
  }
  while (tile < tiles) {
    float c[4] = {};
    ring.consume(lane, upper, lower, a.size, x, stride, rows, c);
    const int next = tile + static_cast<int>(gridDim.x);
    if (next < tiles) {
      upper = row_at(next, lane.g);
      lower = row_at(next, lane.g + 8);
      ring.fill(lane, upper, lower, a.size);
    }
    sums->put(lane, c);
    __syncthreads();
    if (of_router(tile)) {
      const int x_row = thread / kTileRows;
      const int column = (tile - first_router) * kTileRows + thread % kTileRows;
      if (x_row < rows && column < logits) {
        a.logits[x_row * logits + column] = sums->sum(column % kTileRows, x_row);
        // Publishes the logits before the count; pairs with the fence of the last block.
        __threadfence();
      }
      __syncthreads();
      if (thread == 0) last = atomicAdd(a.arrived, 1u) == static_cast<uint32_t>(router_tiles) - 1;
      __syncthreads();
      if (last) {
        __threadfence();  // pairs with the fences of the other blocks, before reading their logits
        finish_routing(a, rows, probabilities, used);
      }
    } else if (thread < kFusedRows * 8) {
      const int x_row = thread / 8;
      const int pair = thread % 8;
      if (x_row < rows) {
        const float value = silu(sums->sum(pair, x_row)) * sums->sum(pair + 8, x_row);
        a.act[x_row * a.inner + first_pair(tile) + pair] = __float2bfloat16_rn(value);
      }
    }
    __syncthreads();
    tile = next;
  }
}

__global__ __launch_bounds__(kStreamThreads, kBlocksPerSm) void expert_up_kernel(ExpertUp a,
                                                                                 int rows) {
  const StreamLane lane;
  const int thread = static_cast<int>(threadIdx.x);
  const int stride = stream_stride(a.size);
  bfloat16* x = shared_x();
  TileSums<kStreamWarps>* sums = shared_sums(rows, stride);
  const int tiles_each = a.inner / 8;
  let_next_start();
  wait_for_previous();
  const int tiles = *a.slots.count * tiles_each;
  const auto row_at = [&](int tile, int row) {
    const int pair = tile % tiles_each * 8 + row % 8;
    const size_t first = static_cast<size_t>(a.slots.expert[tile / tiles_each]) * 2 * a.inner;
    return a.gate_up + (first + (row < 8 ? pair : a.inner + pair)) * a.size;
  };
  int tile = static_cast<int>(blockIdx.x);
  if (tile >= tiles) return;
  const bfloat16* upper = row_at(tile, lane.g);
  const bfloat16* lower = row_at(tile, lane.g + 8);
  WeightRing<kDepth> ring;
  ring.fill(lane, upper, lower, a.size);
  stage(x, stride, a.x, a.size, rows);
  while (tile < tiles) {
    float c[4] = {};
    ring.consume(lane, upper, lower, a.size, x, stride, rows, c);
    const int next = tile + static_cast<int>(gridDim.x);
    if (next < tiles) {
      upper = row_at(next, lane.g);
      lower = row_at(next, lane.g + 8);
      ring.fill(lane, upper, lower, a.size);
    }
    sums->put(lane, c);
    __syncthreads();
    if (thread < kFusedRows * 8) {
      const int x_row = thread / 8;
      const int pair = thread % 8;
      if (x_row < rows) {
        const int slot = tile / tiles_each;
        const float value = silu(sums->sum(pair, x_row)) * sums->sum(pair + 8, x_row) *
                            a.slots.weight[slot * kFusedRows + x_row];
        a.act[static_cast<size_t>(slot * kFusedRows + x_row) * a.inner + tile % tiles_each * 8 +
              pair] = __float2bfloat16_rn(value);
      }
    }
    __syncthreads();
    tile = next;
  }
}

}  // namespace

void router_and_shared_up(const RouterAndSharedUp& up, int rows, bool chained,
                          cudaStream_t stream) {
  const int router_tiles =
      up.router != nullptr ? (up.logit_columns + kTileRows - 1) / kTileRows : 0;
  launch_fused(router_and_shared_up_kernel, chained, router_tiles + up.inner / 8,
               shared_bytes(rows, up.size, up.experts), stream, up, rows);
}

void expert_up(const ExpertUp& up, int rows, bool chained, cudaStream_t stream) {
  launch_fused(expert_up_kernel, chained, rows * up.top_k * (up.inner / 8),
               shared_bytes(rows, up.size, 0), stream, up, rows);
}

}  // namespace moetrace::engine::gpu
