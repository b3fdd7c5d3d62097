// The hook itself: one layer's routing out of device memory into the ring.
//
// Slots are dealt out without an atomic. Launches of one producer never overlap, so `claimed`
// stands still while a launch runs: row r takes slot claimed + r, and the last block to finish
// moves `claimed` past them. Nothing waits: rows that the ring has no room for are dropped and
// counted.
//
// A launch writes whole records, and publishes those of the launch before it: they have arrived in
// the meantime, so the fence in front of the published position has nothing to wait for. Only a
// step's last layer waits for its own. One word a launch on the link, instead of a commit word a
// record.
#include <algorithm>

#include "producer/cuda/kernels.hpp"
#include "producer/cuda/route_pieces.cuh"
#include "producer/cuda/step_control.cuh"

namespace moetrace::cuda {
namespace {

constexpr unsigned kWarp = 32;
constexpr unsigned kPieceBytes = 16;
// Threads that write; one more warp publishes. Few enough to find a place beside an expert kernel.
constexpr unsigned kWriters = 512;
// From here on counting in shared memory is worth its barrier; 4 bytes an expert.
constexpr unsigned kHistogramRows = 1024;
constexpr unsigned kMostHistogramExperts = 4096;

// 16-byte pieces of a record of 64 * `units` bytes; a thread makes one.
__host__ __device__ constexpr unsigned pieces_of(unsigned units) {
  return 4 * units;
}

// Counts of a block's rows: in shared memory if there are very many, else right away.
struct Counter {
  unsigned long long* counts;  // of this layer
  unsigned* histogram;         // nullptr: none
  std::uint32_t num_experts;

  // In front of a barrier.
  __device__ void clear() const {
    if (histogram == nullptr) return;
    for (unsigned e = threadIdx.x; e < num_experts; e += blockDim.x) histogram[e] = 0;
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
  // By all threads, after their last add().
  __device__ void flush() const {
    if (histogram == nullptr) return;
    __syncthreads();
    for (unsigned e = threadIdx.x; e < num_experts; e += blockDim.x) {
      if (histogram[e] != 0) atomicAdd(counts + e, static_cast<unsigned long long>(histogram[e]));
    }
  }
};

// One thread a block. True for the last one of the grid, which may then change the control block,
// because every block has read it.
__device__ bool takes_last_ticket(ControlBlock& control) {
  if (gridDim.x == 1) return true;
  __threadfence();
  // Back to 0 with the last one.
  const bool last = atomicInc(&control.ticket, gridDim.x - 1) == gridDim.x - 1;
  __threadfence();
  return last;
}

// kUnits: 64-byte units of a record. The last warp of a block keeps the books; all others write, a
// thread a piece, so that a warp's store is consecutive and whole lines leave the GPU.
template <unsigned kUnits, bool kVectors>
__global__ void record_rows(HookView view, RouteTensors routes, std::uint32_t layer,
                            bool use_histogram) {
  extern __shared__ unsigned histogram[];
  constexpr unsigned kPieces = pieces_of(kUnits);
  const unsigned writers = blockDim.x - kWarp;
  const bool keeps_books = threadIdx.x == writers;

  ControlBlock& control = *view.control;
  // The same in all blocks: nothing changes the control block before each has taken its ticket.
  const bool selected = control.layers.words[layer / 64] >> (layer % 64) & 1;
  const bool wanted =
      control.open != 0 && selected && static_cast<std::int32_t>(layer) > control.last_seen;
  const std::uint32_t rows = min(routes.rows, control.rows);
  const std::uint64_t first = control.claimed;
  const std::uint64_t room = known_room(view, control);
  const bool record = control.record != 0;
  const std::uint32_t taken = !record ? 0 : room < rows ? static_cast<std::uint32_t>(room) : rows;
  const auto step = static_cast<std::uint32_t>(control.step);
  const bool step_ends = static_cast<std::int32_t>(layer) == control.last_layer;
  // For what earlier launches wrote, and while the loads above are under way.
  if (keeps_books && blockIdx.x == 0) fence_system();

  // Loaded before anything is known of the step, so that both are under way together. Padding rows
  // are loaded, too, and no more than that.
  const unsigned block_rows = writers / kPieces;
  const std::uint32_t row = blockIdx.x * block_rows + threadIdx.x / kPieces;
  const std::uint32_t piece = threadIdx.x % kPieces;
  const bool exists = threadIdx.x < block_rows * kPieces && row < routes.rows;
  Piece loaded{};
  if (exists) {
    const std::uint64_t begin = std::uint64_t{row} * view.top_k;
    loaded = kVectors ? load_piece_by_vectors<kUnits>(routes, piece, begin, view)
                      : load_piece<kUnits>(routes, piece, begin, view);
  }
  if (!wanted) return;

  const Counter counter{view.counts + std::uint64_t{layer} * view.num_experts,
                        use_histogram ? histogram : nullptr, view.num_experts};
  const auto keep_books = [&] {
    if (!takes_last_ticket(control)) return;
    control.claimed = first + taken;
    control.dropped += record ? rows - taken : 0;
    control.last_seen = static_cast<std::int32_t>(layer);
    if (step_ends) {
      end_step(view, control);
    } else if (record) {
      look_for_room(view, control, control.rows);
    }
  };
  counter.clear();
  __syncthreads();  // every thread of the block has read the control block
  // Beside the writing, unless the step ends with it.
  if (keeps_books && blockIdx.x == 0 && record) publish(view, first);
  if (keeps_books && !step_ends) keep_books();
  if (exists && row < taken) {
    const uint4 head = make_uint4(static_cast<std::uint32_t>(first + row + 1), step, row, layer);
    std::byte* slot = view.routes + ((first + row) & (view.route_slots - 1)) * (64 * kUnits);
    *reinterpret_cast<uint4*>(slot + piece * kPieceBytes) = piece == 0 ? head : loaded.bits;
  }
  if (exists && row < rows && piece > 0 && piece <= kUnits) counter.add(loaded.experts);
  counter.flush();
  if (!step_ends) return;
  __syncthreads();  // the block has written
  if (!keeps_books) return;
  // What this block has written comes before its ticket, for the CPU, too; the last one publishes.
  fence_system();
  keep_books();
}

template <unsigned kUnits, bool kVectors>
cudaError_t launch(cudaStream_t stream, const HookView& view, std::uint32_t layer,
                   const RouteTensors& routes) {
  const unsigned pieces = routes.rows * pieces_of(kUnits);
  const unsigned threads = std::min((pieces + kWarp - 1) / kWarp * kWarp, kWriters);
  const unsigned block_rows = threads / pieces_of(kUnits);
  const unsigned blocks = (routes.rows + block_rows - 1) / block_rows;
  const bool use_histogram =
      routes.rows >= kHistogramRows && view.num_experts <= kMostHistogramExperts;
  const std::size_t shared = use_histogram ? view.num_experts * sizeof(unsigned) : 0;
  record_rows<kUnits, kVectors>
      <<<blocks, threads + kWarp, shared, stream>>>(view, routes, layer, use_histogram);
  return cudaGetLastError();
}

template <unsigned kUnits>
cudaError_t launch(cudaStream_t stream, const HookView& view, std::uint32_t layer,
                   const RouteTensors& routes) {
  return fits_vectors(routes, view.top_k) ? launch<kUnits, true>(stream, view, layer, routes)
                                          : launch<kUnits, false>(stream, view, layer, routes);
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
  for (const void* kernel : {reinterpret_cast<const void*>(&record_rows<1, true>),
                             reinterpret_cast<const void*>(&record_rows<1, false>),
                             reinterpret_cast<const void*>(&record_rows<2, true>),
                             reinterpret_cast<const void*>(&record_rows<2, false>),
                             reinterpret_cast<const void*>(&record_rows<3, true>),
                             reinterpret_cast<const void*>(&record_rows<3, false>),
                             reinterpret_cast<const void*>(&record_rows<4, true>),
                             reinterpret_cast<const void*>(&record_rows<4, false>)}) {
    if (const cudaError_t failed = cudaFuncGetAttributes(&attributes, kernel)) return failed;
  }
  return cudaSuccess;
}

}  // namespace moetrace::cuda
