#include "engine/cuda/chained_launch.cuh"
#include "engine/cuda/grouped_matmul.hpp"
#include "engine/cuda/tensor_core.cuh"

namespace moetrace::engine::gpu {

namespace {

// The arguments of both kernels, for up (kUp) and for down. Grid: (tiles of weight rows, items).
template <class T, bool kUp>
struct Product {
  const T* weights;  // of all experts
  const T* x;        // kUp: [rows, columns], else [pairs, columns] in the grouping's order
  int columns;       // of a weight row: the dimension that the product sums over
  int outputs;       // kUp: pairs of a gate row and an up row, else weight rows
  int top_k;
  Grouping grouping;
  T* act;         // kUp: [pairs, outputs]
  float* routed;  // else: [pairs, outputs]

  __device__ const T* weights_of(int expert) const {
    return weights + static_cast<size_t>(expert) * (kUp ? 2 : 1) * outputs * columns;
  }
  __device__ const T* x_of(int place) const {
    const int row = kUp ? grouping.order[place] / top_k : place;
    return x + static_cast<size_t>(row) * columns;
  }
};

// ---- bfloat16

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kTileRows = 16 * kWarps;  // weight rows of a block
constexpr int kStep = 64;               // columns of a stage: 128 bytes a row
constexpr int kPieces = kStep / 8;      // 16-byte pieces of a row
constexpr int kStages = 3;
constexpr int kWeightBytes = kTileRows * kStep * 2;
constexpr int kStageBytes = kWeightBytes + kItemPairs * kStep * 2;

extern __shared__ uint4 stages[];

// Byte offset of a piece of a row in a stage. Swizzled: the same piece of 8 rows lies in different
// banks.
__device__ uint32_t piece_at(int row, int piece) {
  return static_cast<uint32_t>(row * kStep * 2 + ((piece ^ (row & 7)) << 4));
}

template <bool kUp>
__global__ __launch_bounds__(kThreads, 2) void tensor_core_kernel(Product<bfloat16, kUp> a) {
  if (static_cast<int>(blockIdx.y) >= *a.grouping.item_count) return;
  const WorkItem item = a.grouping.items[blockIdx.y];
  const int thread = static_cast<int>(threadIdx.x);
  const int warp = thread / 32;
  const int lane = thread % 32;
  constexpr int kOutputs = kUp ? kTileRows / 2 : kTileRows;
  const int first_output = static_cast<int>(blockIdx.x) * kOutputs;

  // Loads: a thread copies one piece of every 32nd row. With kUp, a warp's 16 rows are 8 of gate
  // and the matching 8 of up. Rows past the end read the last row again.
  const int piece = thread % kPieces;
  const int first_row = thread / kPieces;
  constexpr int kRowsApart = kThreads / kPieces;
  const bfloat16* weight_rows[kTileRows / kRowsApart];
  const bfloat16* const weights = a.weights_of(item.expert);
#pragma unroll
  for (int i = 0; i < kTileRows / kRowsApart; ++i) {
    const int row = first_row + i * kRowsApart;
    int output = kUp ? first_output + row / 16 * 8 + row % 8 : first_output + row;
    output = min(output, a.outputs - 1);
    if (kUp && row % 16 >= 8) output += a.outputs;
    weight_rows[i] = weights + static_cast<size_t>(output) * a.columns;
  }
  const bfloat16* x_rows[kItemPairs / kRowsApart];
#pragma unroll
  for (int i = 0; i < kItemPairs / kRowsApart; ++i) {
    const int pair = first_row + i * kRowsApart;
    x_rows[i] = a.x_of(item.first + min(pair, item.pairs - 1));
  }
  const uint32_t base = shared_address(stages);
  const int used_pairs = (item.pairs + 15) / 16 * 16;  // that the tensor cores read
  const auto load_stage = [&](int step) {
    const uint32_t to = base + static_cast<uint32_t>(step % kStages * kStageBytes);
    const int at = step * kStep + piece * 8;
    const bool there = at < a.columns;
#pragma unroll
    for (int i = 0; i < kTileRows / kRowsApart; ++i)
      copy16(to + piece_at(first_row + i * kRowsApart, piece), weight_rows[i] + (there ? at : 0),
             there);
#pragma unroll
    for (int i = 0; i < kItemPairs / kRowsApart; ++i) {
      const int pair = first_row + i * kRowsApart;
      if (pair < used_pairs)
        copy16(to + kWeightBytes + piece_at(pair, piece), x_rows[i] + (there ? at : 0), there);
    }
  };

  const int steps = (a.columns + kStep - 1) / kStep;
#pragma unroll
  for (int step = 0; step < kStages - 1; ++step) {
    if (step < steps) load_stage(step);
    end_copy_group();
  }
  float c[kItemPairs / 8][4] = {};
  for (int step = 0; step < steps; ++step) {
    wait_for_copies<kStages - 2>();
    // Every thread's copies of this stage have arrived, and the stage to load next is free.
    __syncthreads();
    if (step + kStages - 1 < steps) load_stage(step + kStages - 1);
    end_copy_group();
    const uint32_t stage = base + static_cast<uint32_t>(step % kStages * kStageBytes);
#pragma unroll
    for (int k = 0; k < kStep / 16; ++k) {
      uint32_t of_weights[4];
      load_matrices(of_weights, stage + piece_at(warp * 16 + lane % 16, k * 2 + lane / 16));
#pragma unroll
      for (int n = 0; n < kItemPairs / 16; ++n) {
        if (n * 16 >= item.pairs) break;
        uint32_t of_x[4];
        load_matrices(of_x, stage + kWeightBytes +
                                piece_at(n * 16 + lane / 16 * 8 + lane % 8, k * 2 + lane / 8 % 2));
        multiply_add(c[2 * n], of_weights[0], of_weights[1], of_weights[2], of_weights[3], of_x[0],
                     of_x[1]);
        multiply_add(c[2 * n + 1], of_weights[0], of_weights[1], of_weights[2], of_weights[3],
                     of_x[2], of_x[3]);
      }
    }
  }
#pragma unroll
  for (int n = 0; n < kItemPairs / 8; ++n) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int pair = n * 8 + 2 * (lane % 4) + i;
      if (pair >= item.pairs) continue;
      const int place = item.first + pair;
      if constexpr (kUp) {
        const int output = first_output + warp * 8 + lane / 4;
        if (output < a.outputs)
          a.act[static_cast<size_t>(place) * a.outputs + output] =
              __float2bfloat16_rn(silu(c[n][i]) * c[n][2 + i]);
      } else {
        float* to = a.routed + static_cast<size_t>(a.grouping.order[place]) * a.outputs;
        const int output = first_output + warp * 16 + lane / 4;
        if (output < a.outputs) to[output] = c[n][i];
        if (output + 8 < a.outputs) to[output + 8] = c[n][2 + i];
      }
    }
  }
}

// ---- float32

constexpr int kTile = 32;  // outputs, columns and pairs of a tile

template <bool kUp>
__global__ __launch_bounds__(kThreads) void multiply_add_kernel(Product<float, kUp> a) {
  __shared__ float of_weights[kUp ? 2 : 1][kTile][kTile + 1];
  __shared__ float of_x[kTile][kTile + 1];
  if (static_cast<int>(blockIdx.y) >= *a.grouping.item_count) return;
  const WorkItem item = a.grouping.items[blockIdx.y];
  const int column = static_cast<int>(threadIdx.x) % kTile;
  const int eighth = static_cast<int>(threadIdx.x) / kTile;  // 0 to 7
  const int first_output = static_cast<int>(blockIdx.x) * kTile;
  const float* weights = a.weights_of(item.expert);
  for (int first = 0; first < item.pairs; first += kTile) {
    float sums[kUp ? 2 : 1][kTile / 8] = {};  // output `column`, pairs eighth, eighth + 8, …
    for (int base = 0; base < a.columns; base += kTile) {
      __syncthreads();
      const bool there = base + column < a.columns;
      for (int row = eighth; row < kTile; row += 8) {
        const int output = first_output + row;
        const int pair = first + row;
        for (int half = 0; half < (kUp ? 2 : 1); ++half) {
          of_weights[half][row][column] =
              there && output < a.outputs
                  ? weights[static_cast<size_t>(half * a.outputs + output) * a.columns + base +
                            column]
                  : 0.0f;
        }
        of_x[row][column] =
            there && pair < item.pairs ? a.x_of(item.first + pair)[base + column] : 0.0f;
      }
      __syncthreads();
      for (int k = 0; k < kTile; ++k) {
#pragma unroll
        for (int i = 0; i < kTile / 8; ++i) {
          const float x = of_x[eighth + 8 * i][k];
          for (int half = 0; half < (kUp ? 2 : 1); ++half)
            sums[half][i] += of_weights[half][column][k] * x;
        }
      }
    }
    const int output = first_output + column;
#pragma unroll
    for (int i = 0; i < kTile / 8; ++i) {
      const int pair = first + eighth + 8 * i;
      if (pair >= item.pairs || output >= a.outputs) continue;
      const int place = item.first + pair;
      if constexpr (kUp) {
        a.act[static_cast<size_t>(place) * a.outputs + output] = silu(sums[0][i]) * sums[1][i];
      } else {
        a.routed[static_cast<size_t>(a.grouping.order[place]) * a.outputs + output] = sums[0][i];
      }
    }
  }
}

template <class T, bool kUp>
void launch_product(const Product<T, kUp>& product, int most_items, cudaStream_t stream) {
  if constexpr (sizeof(T) == 2) {
    constexpr int kOutputs = kUp ? kTileRows / 2 : kTileRows;
    constexpr int kBytes = kStages * kStageBytes;
    check(cudaFuncSetAttribute(tensor_core_kernel<kUp>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               kBytes),
          "shared memory");
    launch(tensor_core_kernel<kUp>, false,
           dim3((product.outputs + kOutputs - 1) / kOutputs, most_items), kThreads, kBytes, stream,
           product);
  } else {
    launch(multiply_add_kernel<kUp>, false, dim3((product.outputs + kTile - 1) / kTile, most_items),
           kThreads, 0, stream, product);
  }
}

template <class T>
void up(const ExpertWeights& weights, const Grouping& grouping, int most_items, int top_k,
        const void* x, void* act, cudaStream_t stream) {
  launch_product<T, true>(
      {static_cast<const T*>(weights.gate_up), static_cast<const T*>(x), weights.size,
       weights.inner, top_k, grouping, static_cast<T*>(act), nullptr},
      most_items, stream);
}

template <class T>
void down(const ExpertWeights& weights, const Grouping& grouping, int most_items, const void* act,
          float* routed, cudaStream_t stream) {
  launch_product<T, false>({static_cast<const T*>(weights.down), static_cast<const T*>(act),
                            weights.inner, weights.size, 1, grouping, nullptr, routed},
                           most_items, stream);
}

}  // namespace

void experts_up(NumberType type, const ExpertWeights& weights, const Grouping& grouping,
                int most_items, int top_k, const void* x, void* act, cudaStream_t stream) {
  const auto run = type == NumberType::kBfloat16 ? up<bfloat16> : up<float>;
  run(weights, grouping, most_items, top_k, x, act, stream);
}

void experts_down(NumberType type, const ExpertWeights& weights, const Grouping& grouping,
                  int most_items, const void* act, float* routed, cudaStream_t stream) {
  const auto run = type == NumberType::kBfloat16 ? down<bfloat16> : down<float>;
  run(weights, grouping, most_items, act, routed, stream);
}

}  // namespace moetrace::engine::gpu
