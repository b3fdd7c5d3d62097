#include <algorithm>

#include "producer/engine/cuda/chained_launch.cuh"
#include "producer/engine/cuda/fused_decode.hpp"
#include "producer/engine/cuda/router.cuh"
#include "producer/engine/cuda/weight_stream.cuh"

namespace moetrace::engine::gpu {

namespace {

static_assert(kFusedRows == kStreamRows);

constexpr int kDepth = 4;        // loads of two rows in flight a lane: 32 registers
constexpr int kBlocksPerSm = 3;  // hence at most 80 registers; together 96 KB in flight an SM
constexpr size_t kMostShared = 72 * 1024;  // three such blocks fit an SM of a GPU with 228 KB
// mlp_down has as many blocks as an SM has tiles, one, so more warps; its ring holds x too.
constexpr int kDownWarps = 16;
constexpr int kDownThreads = kDownWarps * 32;
constexpr int kDownDepth = 4;

extern __shared__ uint4 shared_memory[];

// Shared memory in the order: x, sums, probabilities, used.
__device__ bfloat16* shared_x() {
  return reinterpret_cast<bfloat16*>(shared_memory);
}
__device__ TileSums<kStreamWarps>* shared_sums(int rows, int stride) {
  return reinterpret_cast<TileSums<kStreamWarps>*>(shared_x() + rows * stride);
}

size_t shared_bytes(int rows, int columns, int experts) {
  return static_cast<size_t>(rows) * stream_stride(columns) * sizeof(bfloat16) +
         sizeof(TileSums<kStreamWarps>) +
         static_cast<size_t>(rows + 1) * static_cast<size_t>(experts) * sizeof(float);
}

int persistent_grid(int tiles) {
  static const int blocks = [] {
    int device = 0;
    int count = 0;
    check(cudaGetDevice(&device), "device");
    check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device), "device");
    return count * kBlocksPerSm;
  }();
  return std::min(tiles, blocks);
}

// Before the wait: what the block will read as soon as it is over.
__device__ void prefetch(const float* from, int count) {
  for (int i = static_cast<int>(threadIdx.x) * 32; from != nullptr && i < count;
       i += kStreamThreads * 32)
    asm volatile("prefetch.global.L2 [%0];" ::"l"(from + i));
}

// x = rms_norm(hidden) * norm in bfloat16, by the whole block; `sums` is free until the end.
__device__ void stage_normed(bfloat16* x, int stride, const float* hidden, const float* norm,
                             float epsilon, int columns, int rows, TileSums<kStreamWarps>* sums) {
  const int thread = static_cast<int>(threadIdx.x);
  float* of_warp = &sums->part[0][0][0];  // [rows, warps]
  for (int row = 0; row < rows; ++row) {
    float square = 0;
    for (int i = thread * 4; i < columns; i += kStreamThreads * 4) {
      const float4 h = *reinterpret_cast<const float4*>(hidden + row * columns + i);
      square += h.x * h.x + h.y * h.y + h.z * h.z + h.w * h.w;
    }
    square = warp_sum(square);
    if (thread % 32 == 0) of_warp[row * kStreamWarps + thread / 32] = square;
  }
  __syncthreads();
  for (int row = 0; row < rows; ++row) {
    float square = 0;
#pragma unroll
    for (int warp = 0; warp < kStreamWarps; ++warp) square += of_warp[row * kStreamWarps + warp];
    const float scale = rsqrtf(square / static_cast<float>(columns) + epsilon);
    for (int i = thread * 4; i < columns; i += kStreamThreads * 4) {
      const float4 h = *reinterpret_cast<const float4*>(hidden + row * columns + i);
      const float4 w = *reinterpret_cast<const float4*>(norm + i);
      __nv_bfloat162 pair[2] = {__floats2bfloat162_rn(h.x * scale * w.x, h.y * scale * w.y),
                                __floats2bfloat162_rn(h.z * scale * w.z, h.w * scale * w.w)};
      *reinterpret_cast<uint2*>(x + row * stride + i) = *reinterpret_cast<uint2*>(pair);
    }
  }
  __syncthreads();
}

__device__ void stage(bfloat16* x, int stride, const bfloat16* from, int columns, int rows) {
  for (int row = 0; row < rows; ++row) {
    for (int i = static_cast<int>(threadIdx.x) * 8; i < columns; i += kStreamThreads * 8) {
      *reinterpret_cast<uint4*>(x + row * stride + i) =
          *reinterpret_cast<const uint4*>(from + static_cast<size_t>(row) * columns + i);
    }
  }
  __syncthreads();
}

__global__ __launch_bounds__(kStreamThreads, kBlocksPerSm) void dense_gemv_kernel(DenseGemv a,
                                                                                  int rows) {
  const StreamLane lane;
  const int stride = stream_stride(a.in);
  bfloat16* x = shared_x();
  TileSums<kStreamWarps>* sums = shared_sums(rows, stride);
  const int tiles = (a.out + kTileRows - 1) / kTileRows;
  // Rows past the end are the last one again; what comes of them is not stored.
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

// By the last of the blocks that computed logits: routes each row, then lists the experts.
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

// Tiles: 16 rows of the router, or 8 rows of the gate and the 8 of up that belong to them.
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
  // The last blocks have the fewest tiles, so they get those of the router as their first.
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
        __threadfence();  // before this block says that it arrived
      }
      __syncthreads();
      if (thread == 0) last = atomicAdd(a.arrived, 1u) == static_cast<uint32_t>(router_tiles) - 1;
      __syncthreads();
      if (last) {
        __threadfence();  // after all have
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

// A warp's way through the columns of mlp_down: chunks of 32 of the shared expert, then of one slot
// after the other; every kDownWarps-th chunk is this warp's. It walks ahead of the sums by the
// depth of the ring.
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

// One tile of 16 outputs a block, over the columns of the shared expert and of all slots in one go.
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

  // The first lap, as far as it is of the shared expert, needs nothing of an earlier kernel.
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
    // A shared expert so narrow that this warp has no chunk of it.
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

void dense_gemv(const DenseGemv& gemv, int rows, bool chained, cudaStream_t stream) {
  const int tiles = (gemv.out + kTileRows - 1) / kTileRows;
  launch(dense_gemv_kernel, chained, persistent_grid(tiles), kStreamThreads,
         shared_bytes(rows, gemv.in, 0), stream, gemv, rows);
}

void router_and_shared_up(const RouterAndSharedUp& up, int rows, bool chained,
                          cudaStream_t stream) {
  const int router_tiles =
      up.router != nullptr ? (up.logit_columns + kTileRows - 1) / kTileRows : 0;
  launch(router_and_shared_up_kernel, chained, persistent_grid(router_tiles + up.inner / 8),
         kStreamThreads, shared_bytes(rows, up.size, up.experts), stream, up, rows);
}

void expert_up(const ExpertUp& up, int rows, bool chained, cudaStream_t stream) {
  launch(expert_up_kernel, chained, persistent_grid(rows * up.top_k * (up.inner / 8)),
         kStreamThreads, shared_bytes(rows, up.size, 0), stream, up, rows);
}

void mlp_down(const MlpDown& down, int rows, bool chained, cudaStream_t stream) {
  const size_t slots = down.logits != nullptr ? static_cast<size_t>(down.experts) : 0;
  launch(mlp_down_kernel, chained, (down.size + kTileRows - 1) / kTileRows, kDownThreads,
         sizeof(TileSums<kDownWarps>) + slots * sizeof(int), stream, down, rows);
}

bool fused_decode_fits(int64_t widest_input, int64_t experts, int64_t top_k) {
  return top_k <= 32 && widest_input <= 1 << 14 && experts <= 1 << 12 &&
         shared_bytes(kFusedRows, static_cast<int>(widest_input), static_cast<int>(experts)) <=
             kMostShared;
}

void prepare_fused_decode() {
  for (const void* kernel : {reinterpret_cast<const void*>(dense_gemv_kernel),
                             reinterpret_cast<const void*>(router_and_shared_up_kernel),
                             reinterpret_cast<const void*>(expert_up_kernel)}) {
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(kMostShared)),
          "shared memory");
  }
}

}  // namespace moetrace::engine::gpu
