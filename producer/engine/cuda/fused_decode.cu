#include <algorithm>

#include "producer/engine/cuda/chained_launch.cuh"
#include "producer/engine/cuda/fused_decode.hpp"
#include "producer/engine/cuda/router.cuh"
#include "producer/engine/cuda/weight_stream.cuh"

namespace moetrace::engine::gpu {

namespace {

static_assert(kFusedRows == kStreamRows);

constexpr int kDepth = 8;      // ring of kernels whose x is in shared memory: 64 registers
constexpr int kDownDepth = 6;  // of mlp_down, which keeps x in the ring too: 72 registers
constexpr int kBlocksPerSm = 2;
constexpr size_t kMostShared = 96 * 1024;  // two such blocks fit an SM of a GPU with 228 KB

extern __shared__ uint4 shared_memory[];

// Shared memory in the order: x, sums, probabilities, used.
__device__ bfloat16* shared_x() { return reinterpret_cast<bfloat16*>(shared_memory); }
__device__ TileSums* shared_sums(int rows, int stride) {
  return reinterpret_cast<TileSums*>(shared_x() + rows * stride);
}

size_t shared_bytes(int rows, int columns, int experts) {
  return static_cast<size_t>(rows) * stream_stride(columns) * sizeof(bfloat16) + sizeof(TileSums) +
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

// x = rms_norm(hidden) * norm in bfloat16, by the whole block; `sums` is free until the end.
__device__ void stage_normed(bfloat16* x, int stride, const float* hidden, const float* norm,
                             float epsilon, int columns, int rows, TileSums* sums) {
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
      __nv_bfloat162 pair[2] = {
          __floats2bfloat162_rn(h.x * scale * w.x, h.y * scale * w.y),
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
  TileSums* sums = shared_sums(rows, stride);
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
      float value = sums->sum(column % kTileRows, x_row);
      if (a.bias != nullptr) value += a.bias[column];
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
      mine[e] = __ldcg(a.logits + warp * (a.experts + 1) + e);
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

// Tiles: first those of the router, whose outcome others wait for, then pairs of 8 gate and 8 up
// rows.
__global__ __launch_bounds__(kStreamThreads, kBlocksPerSm) void router_and_shared_up_kernel(
    RouterAndSharedUp a, int rows) {
  const StreamLane lane;
  const int thread = static_cast<int>(threadIdx.x);
  const int stride = stream_stride(a.size);
  bfloat16* x = shared_x();
  TileSums* sums = shared_sums(rows, stride);
  float* probabilities = reinterpret_cast<float*>(sums + 1);
  int* used = reinterpret_cast<int*>(probabilities + rows * a.experts);
  __shared__ bool last;
  const int logits = a.router != nullptr ? a.experts + 1 : 0;
  const int router_tiles = (logits + kTileRows - 1) / kTileRows;
  const int tiles = router_tiles + a.inner / 8;
  const auto row_at = [&](int tile, int row) {
    if (tile < router_tiles)
      return a.router + static_cast<size_t>(min(tile * kTileRows + row, logits - 1)) * a.size;
    const int pair = (tile - router_tiles) * 8 + row % 8;
    return a.gate_up + static_cast<size_t>(row < 8 ? pair : a.inner + pair) * a.size;
  };
  int tile = static_cast<int>(blockIdx.x);
  const bfloat16* upper = row_at(tile, lane.g);
  const bfloat16* lower = row_at(tile, lane.g + 8);
  WeightRing<kDepth> ring;
  ring.fill(lane, upper, lower, a.size);
  let_next_start();
  wait_for_previous();
  stage_normed(x, stride, a.hidden, a.norm, a.epsilon, a.size, rows, sums);
  if (blockIdx.x == gridDim.x - 1) {
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
    if (tile < router_tiles) {
      const int x_row = thread / kTileRows;
      const int column = tile * kTileRows + thread % kTileRows;
      if (x_row < rows && column < logits) {
        a.logits[x_row * logits + column] = sums->sum(column % kTileRows, x_row);
        __threadfence();  // before this block says that it arrived
      }
      __syncthreads();
      if (thread == 0)
        last = atomicAdd(a.arrived, 1u) == static_cast<uint32_t>(router_tiles) - 1;
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
        a.act[x_row * a.inner + (tile - router_tiles) * 8 + pair] = __float2bfloat16_rn(value);
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
  TileSums* sums = shared_sums(rows, stride);
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

// One tile of 16 outputs a block, over the columns of the shared expert and of all slots in one go.
__global__ __launch_bounds__(kStreamThreads) void mlp_down_kernel(MlpDown a, int rows) {
  const StreamLane lane;
  TileSums* sums = reinterpret_cast<TileSums*>(shared_memory);
  int* experts = reinterpret_cast<int*>(sums + 1);
  const int shared_chunks = (a.shared_inner + kChunk - 1) / kChunk;
  const int expert_chunks = (a.inner + kChunk - 1) / kChunk;
  const int tile_row = static_cast<int>(blockIdx.x) * kTileRows;
  const size_t upper_row = static_cast<size_t>(min(tile_row + lane.g, a.size - 1));
  const size_t lower_row = static_cast<size_t>(min(tile_row + lane.g + 8, a.size - 1));
  uint4 upper[kDownDepth], lower[kDownDepth], x[kDownDepth];

  const auto load_shared_weights = [&](int chunk, uint4& up, uint4& low) {
    const int at = chunk * kChunk + lane.t * 8;
    const bool there = chunk < shared_chunks && at < a.shared_inner;
    up = load_weights(a.shared_down + upper_row * a.shared_inner + at, there);
    low = load_weights(a.shared_down + lower_row * a.shared_inner + at, there);
  };
#pragma unroll
  for (int i = 0; i < kDownDepth; ++i)
    load_shared_weights(lane.warp + i * kStreamWarps, upper[i], lower[i]);
  let_next_start();
  wait_for_previous();

  const int slots = a.logits != nullptr ? *a.slots.count : 0;
  for (int i = static_cast<int>(threadIdx.x); i < slots; i += kStreamThreads)
    experts[i] = a.slots.expert[i];
  __syncthreads();
  const int chunks = shared_chunks + slots * expert_chunks;
  const auto load_expert_weights = [&](int chunk, uint4& up, uint4& low) {
    const int at = (chunk - shared_chunks) % expert_chunks * kChunk + lane.t * 8;
    const int slot = (chunk - shared_chunks) / expert_chunks;
    const bool there = chunk < chunks && at < a.inner;
    const bfloat16* of = a.down + static_cast<size_t>(there ? experts[slot] : 0) * a.size * a.inner;
    up = load_weights(of + upper_row * a.inner + at, there);
    low = load_weights(of + lower_row * a.inner + at, there);
  };
  const auto load_x = [&](int chunk) {
    const bfloat16* from = nullptr;
    if (chunk < shared_chunks) {
      const int at = chunk * kChunk + lane.t * 8;
      if (at < a.shared_inner) from = a.shared_act + lane.g * a.shared_inner + at;
    } else if (chunk < chunks) {
      const int slot = (chunk - shared_chunks) / expert_chunks;
      const int at = (chunk - shared_chunks) % expert_chunks * kChunk + lane.t * 8;
      if (at < a.inner)
        from = a.act + static_cast<size_t>(slot * kFusedRows + lane.g) * a.inner + at;
    }
    return from != nullptr && lane.g < rows ? *reinterpret_cast<const uint4*>(from)
                                            : make_uint4(0, 0, 0, 0);
  };
  float shared_scale[2] = {1.0f, 1.0f};  // of columns 2t and 2t + 1
  if (a.logits != nullptr) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int row = 2 * lane.t + i;
      if (row < rows) shared_scale[i] = sigmoid(a.logits[row * (a.experts + 1) + a.experts]);
    }
  }
#pragma unroll
  for (int i = 0; i < kDownDepth; ++i) {
    const int chunk = lane.warp + i * kStreamWarps;
    if (chunk >= shared_chunks) load_expert_weights(chunk, upper[i], lower[i]);
    x[i] = load_x(chunk);
  }

  float c[4] = {};
  bool scaled = false;
  const auto scale = [&] {
    c[0] *= shared_scale[0], c[1] *= shared_scale[1];
    c[2] *= shared_scale[0], c[3] *= shared_scale[1];
    scaled = true;
  };
  for (int base = lane.warp; base < chunks; base += kDownDepth * kStreamWarps) {
#pragma unroll
    for (int i = 0; i < kDownDepth; ++i) {
      const int chunk = base + i * kStreamWarps;
      if (chunk >= shared_chunks && !scaled) scale();
      multiply_chunk(c, upper[i], lower[i], x[i]);
      const int next = chunk + kDownDepth * kStreamWarps;
      if (next < shared_chunks) {
        load_shared_weights(next, upper[i], lower[i]);
      } else {
        load_expert_weights(next, upper[i], lower[i]);
      }
      x[i] = load_x(next);
    }
  }
  if (!scaled) scale();
  sums->put(lane, c);
  __syncthreads();
  const int x_row = static_cast<int>(threadIdx.x) / kTileRows;
  const int column = tile_row + static_cast<int>(threadIdx.x) % kTileRows;
  if (x_row < rows && column < a.size)
    a.hidden[static_cast<size_t>(x_row) * a.size + column] +=
        sums->sum(column % kTileRows, x_row);
}

}  // namespace

void dense_gemv(const DenseGemv& gemv, int rows, bool chained, cudaStream_t stream) {
  const int tiles = (gemv.out + kTileRows - 1) / kTileRows;
  launch(dense_gemv_kernel, chained, persistent_grid(tiles), kStreamThreads,
         shared_bytes(rows, gemv.in, 0), stream, gemv, rows);
}

void router_and_shared_up(const RouterAndSharedUp& up, int rows, bool chained,
                          cudaStream_t stream) {
  const int router_tiles = up.router != nullptr ? up.experts / kTileRows + 1 : 0;
  launch(router_and_shared_up_kernel, chained, persistent_grid(router_tiles + up.inner / 8),
         kStreamThreads, shared_bytes(rows, up.size, up.experts), stream, up, rows);
}

void expert_up(const ExpertUp& up, int rows, bool chained, cudaStream_t stream) {
  launch(expert_up_kernel, chained, persistent_grid(rows * up.top_k * (up.inner / 8)),
         kStreamThreads, shared_bytes(rows, up.size, 0), stream, up, rows);
}

void mlp_down(const MlpDown& down, int rows, bool chained, cudaStream_t stream) {
  const size_t slots = down.logits != nullptr ? static_cast<size_t>(down.experts) : 0;
  launch(mlp_down_kernel, chained, (down.size + kTileRows - 1) / kTileRows, kStreamThreads,
         sizeof(TileSums) + slots * sizeof(int), stream, down, rows);
}

bool fused_decode_fits(int64_t widest_input, int64_t experts, int64_t top_k) {
  return top_k <= 32 && widest_input <= 1 << 14 && experts <= 1 << 12 &&
         shared_bytes(kFusedRows, static_cast<int>(widest_input), static_cast<int>(experts)) <=
             kMostShared;
}

void prepare_fused_decode() {
  for (const void* kernel :
       {reinterpret_cast<const void*>(dense_gemv_kernel),
        reinterpret_cast<const void*>(router_and_shared_up_kernel),
        reinterpret_cast<const void*>(expert_up_kernel)}) {
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(kMostShared)),
          "shared memory");
  }
}

}  // namespace moetrace::engine::gpu
