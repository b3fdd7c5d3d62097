// The hook itself: one layer's routing out of device memory into the ring.
//
// Slots are dealt out without an atomic. Launches of one producer never overlap, so `claimed` stands
// still while a launch runs: row r takes slot claimed + r, and the last block to finish moves
// `claimed` past them. Nothing waits: rows that the ring has no room for are dropped and counted.
#include "producer/cuda/kernels.hpp"
#include "producer/cuda/route_pieces.cuh"
#include "producer/cuda/step_control.cuh"

namespace moetrace::cuda {
namespace {

// A whole block's worth of 16-byte pieces: 256 records of 64 bytes, and one fence for all of them.
constexpr unsigned kMostThreads = 1024;
constexpr unsigned kPieceBytes = 16;
__host__ __device__ constexpr unsigned rows_per_block(unsigned units) {
  return kMostThreads / (4 * units);
}
// From here on counting in shared memory is worth its two barriers; 4 bytes an expert.
constexpr unsigned kHistogramRows = 64;
constexpr unsigned kMostHistogramExperts = 4096;

// Counts of this block's rows: in shared memory if there are enough of them, else right away.
struct Counter {
  unsigned long long* counts;  // of this layer
  unsigned* histogram;         // nullptr: none
  std::uint32_t num_experts;

  __device__ void clear() const {
    if (histogram == nullptr) return;
    for (unsigned e = threadIdx.x; e < num_experts; e += blockDim.x) histogram[e] = 0;
    __syncthreads();
  }
  __device__ void add(const ExpertPiece& piece) const {
#pragma unroll
    for (int n = 0; n < 8; ++n) {
      if (piece.expert[n] == MOETRACE_NO_EXPERT) continue;
      if (histogram != nullptr) {
        atomicAdd(histogram + piece.expert[n], 1u);
      } else {
        atomicAdd(counts + piece.expert[n], 1ull);
      }
    }
  }
  __device__ void flush() const {
    if (histogram == nullptr) return;
    __syncthreads();
    for (unsigned e = threadIdx.x; e < num_experts; e += blockDim.x) {
      if (histogram[e] != 0) atomicAdd(counts + e, static_cast<unsigned long long>(histogram[e]));
    }
  }
};

// True in one thread of the grid, after all blocks' stores; it may then change the control block.
// `step_ends`: the CPU will be told, so their stores must be in order for it, too.
__device__ bool is_last_thread(ControlBlock& control, bool step_ends) {
  __syncthreads();
  if (threadIdx.x != 0) return false;
  if (gridDim.x == 1) return true;
  if (step_ends) {
    fence_system();
  } else {
    __threadfence();
  }
  // Back to 0 with the last one.
  const bool last = atomicInc(&control.ticket, gridDim.x - 1) == gridDim.x - 1;
  __threadfence();
  return last;
}

// kUnits: 64-byte units of a record. Each thread makes one 16-byte piece; a warp's are consecutive,
// so that whole lines leave the GPU.
template <unsigned kUnits>
__global__ void __launch_bounds__(kMostThreads)
    record_rows(HookView view, RouteTensors routes, std::uint32_t layer, bool use_histogram) {
  extern __shared__ unsigned histogram[];
  constexpr unsigned kPieces = 4 * kUnits;
  ControlBlock& control = *view.control;
  // The same in all blocks: nothing changes the control block before each has passed its ticket.
  const bool selected = control.layers.words[layer / 64] >> (layer % 64) & 1;
  const bool wanted = control.open != 0 && selected &&
                      static_cast<std::int32_t>(layer) > control.last_seen;
  const std::uint32_t rows = min(routes.rows, control.rows);
  const std::uint64_t first = control.claimed;
  const std::uint64_t room = known_room(view, control);
  const bool record = control.record != 0;
  const std::uint32_t taken = !record ? 0 : room < rows ? static_cast<std::uint32_t>(room) : rows;
  const auto step = static_cast<std::uint32_t>(control.step);
  const bool step_ends = static_cast<std::int32_t>(layer) == control.last_layer;

  // Before anything is known of the step, so that its loads and these are under way together.
  // Padding rows are loaded, too, and no more than that.
  constexpr std::uint32_t kRows = rows_per_block(kUnits);
  const std::uint32_t block_first = blockIdx.x * kRows;
  const std::uint32_t row = block_first + threadIdx.x / kPieces;
  const std::uint32_t piece = threadIdx.x % kPieces;
  const bool exists = threadIdx.x < kRows * kPieces && row < routes.rows;
  const std::uint64_t begin = std::uint64_t{row} * view.top_k;
  const std::uint64_t end = begin + view.top_k;
  ExpertPiece experts;
  uint4 value = make_uint4(0, 0, 0, 0);
  const bool has_experts = exists && piece > 0 && piece <= kUnits;
  if (has_experts) {
    experts = load_experts(routes, begin + 8 * (piece - 1), end, view.num_experts);
    value = pack(experts);
  } else if (exists && piece > kUnits && piece <= 3 * kUnits) {
    value = load_weights(routes, begin + 4 * (piece - 1 - kUnits), end);
  }
  if (!wanted) return;

  const Counter counter{view.counts + std::uint64_t{layer} * view.num_experts,
                        use_histogram ? histogram : nullptr, view.num_experts};
  const auto slot_of = [&](std::uint32_t of_row) {
    return view.routes + ((first + of_row) & (view.route_slots - 1)) * (64 * kUnits);
  };
  if (piece == 0) {
    // The commit word of a slot that is under way: its number, where a reader waits for the number
    // + 1. So the line is whole already, and committing it is one more word.
    value = make_uint4(static_cast<std::uint32_t>(first + row), step, row, layer);
  }
  if (exists && row < taken)
    *reinterpret_cast<uint4*>(slot_of(row) + piece * kPieceBytes) = value;
  __syncthreads();
  const std::uint32_t committed = block_first + threadIdx.x;
  if (threadIdx.x < kRows && committed < taken) {
    // The payload was written by other threads of this block, before the barrier. The thread that
    // stores a commit word executes the fence itself, which makes the store a release; it pairs with
    // the acquire in RingReader::upper_at.
    fence_system();
    const auto seq = static_cast<std::uint32_t>(first + committed + 1);
    store_system(reinterpret_cast<std::uint64_t*>(slot_of(committed)),
                 std::uint64_t{seq} | std::uint64_t{step} << 32);
  }
  // Counted while the records are on their way.
  counter.clear();
  if (has_experts && row < rows) counter.add(experts);
  counter.flush();

  if (!is_last_thread(control, step_ends)) return;
  control.claimed = first + taken;
  control.dropped += record ? rows - taken : 0;
  control.last_seen = static_cast<std::int32_t>(layer);
  if (step_ends) {
    end_step(view, control);
  } else if (record) {
    look_for_room(view, control, control.rows);
  }
}

template <unsigned kUnits>
cudaError_t launch(cudaStream_t stream, const HookView& view, std::uint32_t layer,
                   const RouteTensors& routes) {
  constexpr unsigned kRowsPerBlock = rows_per_block(kUnits);
  const unsigned blocks = (routes.rows + kRowsPerBlock - 1) / kRowsPerBlock;
  const unsigned pieces = routes.rows * 4 * kUnits;
  const unsigned threads = blocks > 1 ? kMostThreads : (pieces + 31) / 32 * 32;
  const bool use_histogram =
      routes.rows >= kHistogramRows && view.num_experts <= kMostHistogramExperts;
  const std::size_t shared = use_histogram ? view.num_experts * sizeof(unsigned) : 0;
  record_rows<kUnits><<<blocks, threads, shared, stream>>>(view, routes, layer, use_histogram);
  return cudaGetLastError();
}

}  // namespace

cudaError_t launch_record(cudaStream_t stream, const HookView& view, std::uint32_t layer,
                          const RouteTensors& routes) {
  switch ((view.top_k + 7) / 8) {
    case 1:
      return launch<1>(stream, view, layer, routes);
    case 2:
      return launch<2>(stream, view, layer, routes);
    case 3:
      return launch<3>(stream, view, layer, routes);
    default:  // top-k is at most 32
      return launch<4>(stream, view, layer, routes);
  }
}

cudaError_t load_record_kernels() {
  cudaFuncAttributes attributes;
  for (const void* kernel : {reinterpret_cast<const void*>(&record_rows<1>),
                             reinterpret_cast<const void*>(&record_rows<2>),
                             reinterpret_cast<const void*>(&record_rows<3>),
                             reinterpret_cast<const void*>(&record_rows<4>)}) {
    if (const cudaError_t failed = cudaFuncGetAttributes(&attributes, kernel)) return failed;
  }
  return cudaSuccess;
}

}  // namespace moetrace::cuda
