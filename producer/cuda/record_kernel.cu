// The hook's kernel: copies the routing of one layer, or of several, from device memory into the
// ring.
//
// It reserves slots without an atomic. Launches of one producer never overlap, and each begins with
// the tally that the earlier ones left (step_tally.cuh): row r of the launch's n-th layer takes
// slot claimed + n * rows + r. No thread waits for room: rows that don't fit are dropped and
// counted.
//
// A launch writes whole records. The step's last layer publishes them all, with one word over the
// bus instead of a commit word a record. In between, a launch publishes what earlier launches wrote
// if many records are pending: those have arrived meanwhile, so the fence before the published
// position has nothing to wait for. Most launches need neither fence nor word.
#include <algorithm>

#include "producer/cuda/kernel_launch.cuh"
#include "producer/cuda/kernels.hpp"
#include "producer/cuda/route_pieces.cuh"
#include "producer/cuda/step_control.cuh"

namespace moetrace::cuda {

// The dynamic shared memory of a launch.
__device__ inline std::uint64_t* dynamic_shared() {
  extern __shared__ std::uint64_t dynamic_shared_words[];
  return dynamic_shared_words;
}

namespace {

// The block's copy of the launch state, and after it a histogram.
__device__ inline LaunchState& block_state() {
  return *reinterpret_cast<LaunchState*>(dynamic_shared());
}
__device__ inline unsigned* block_histogram() {
  return reinterpret_cast<unsigned*>(&block_state() + 1);
}

constexpr unsigned kWarp = 32;
// Threads of a block that write records; one more warp updates the tally. Few enough to fit on a
// multiprocessor beside an expert kernel.
constexpr unsigned kWriters = 512;
// The same for a launch in line. A multiprocessor takes atomics and stores one after another, 2 us
// for 512 rows, so smaller blocks on more of them finish sooner.
constexpr unsigned kWritersInLine = 128;
// Target occupancy: 3 blocks per multiprocessor; this bounds register use.
constexpr unsigned kBlocksPerMultiprocessor = 3;
// Count in shared memory, at 4 bytes an expert, from this many rows of one layer on: below, its
// barriers cost more than they save.
constexpr unsigned kHistogramRows = kMostSharedRows + 1;
// Upper limit of experts per writer for that: above, a block would flush more experts than it has
// picks.
constexpr unsigned kHistogramExpertsPerWriter = 8;

// The layers of a launch, as a kernel argument.
template <unsigned kMost>
struct LayerList {
  TensorPair tensors[kMost];
  // Ascending; `layers` has the same layers as a mask.
  std::uint8_t layer[kMost];
  moetrace_layer_mask layers;
  std::uint32_t count;
};
static_assert(MOETRACE_MAX_LAYERS <= 256 && sizeof(LayerList<kMostLayers>) < 2048);

// The layers of a launch that are selected and above the step's last layer.
//
// The four words are spelt out, because in a loop the compiler would put them into local memory.
template <unsigned kMost>
class Wanted {
 public:
  __device__ Wanted(const StepArguments& step, const StepTally& tally, const LayerList<kMost>& list)
      : words_{word(step, tally, list, 0), word(step, tally, list, 1), word(step, tally, list, 2),
               word(step, tally, list, 3)} {}

  __device__ bool contains(std::int32_t layer) const {
    return (bit(words_[0], layer) | bit(words_[1], layer - 64) | bit(words_[2], layer - 128) |
            bit(words_[3], layer - 192)) != 0;
  }
  __device__ std::uint32_t count_below(std::int32_t layer) const {
    return below(words_[0], layer) + below(words_[1], layer - 64) + below(words_[2], layer - 128) +
           below(words_[3], layer - 192);
  }
  __device__ std::uint32_t count() const { return count_below(MOETRACE_MAX_LAYERS); }
  // The highest layer; -1: none.
  __device__ std::int32_t last() const {
    return max(max(last(words_[0], 0), last(words_[1], 64)),
               max(last(words_[2], 128), last(words_[3], 192)));
  }

 private:
  static __device__ std::uint64_t word(const StepArguments& step, const StepTally& tally,
                                       const LayerList<kMost>& list, int w) {
    const std::int32_t past = tally.last_seen + 1 - 64 * w;
    const std::uint64_t open = tally.open == 0 || past >= 64 ? 0 : ~0ull << max(past, 0);
    return list.layers.words[w] & step.layers.words[w] & open;
  }
  static __device__ std::uint64_t bit(std::uint64_t word, std::int32_t n) {
    return n >= 0 && n < 64 ? word >> n & 1 : 0;
  }
  static __device__ std::uint32_t below(std::uint64_t word, std::int32_t n) {
    return __popcll(n >= 64 ? word : n <= 0 ? 0 : word & ((1ull << n) - 1));
  }
  static __device__ std::int32_t last(std::uint64_t word, std::int32_t first) {
    return word == 0 ? -1 : first + 63 - __clzll(static_cast<long long>(word));
  }

  std::uint64_t words_[4];
};

// The same for one layer.
template <>
class Wanted<1> {
 public:
  __device__ Wanted(const StepArguments& step, const StepTally& tally, const LayerList<1>& list) {
    const std::int32_t layer = list.layer[0];
    const bool selected = step.layers.words[layer / 64] >> (layer % 64) & 1;
    const bool open = tally.open != 0;
    // & instead of &&, so that all operands are loaded at once.
    last_ = open & selected & (layer > tally.last_seen) ? layer : -1;
  }

  __device__ bool contains(std::int32_t layer) const { return last_ >= 0 && layer == last_; }
  __device__ std::uint32_t count_below(std::int32_t) const { return 0; }
  __device__ std::uint32_t count() const { return last_ >= 0; }
  __device__ std::int32_t last() const { return last_; }

 private:
  std::int32_t last_;
};

// Counts the experts of a block's rows: first in shared memory if the launch has many rows, else
// directly in device memory.
struct Counter {
  // Counts of this thread's layer.
  unsigned long long* counts;
  // In shared memory, zeroed; nullptr: count directly.
  unsigned* histogram;
  std::uint32_t num_experts;

  __device__ void add(const ExpertPiece& piece) const {
#pragma unroll
    for (unsigned n = 0; n < RouteLayout::kIdsPerPiece; ++n) {
      if (piece.expert[n] == MOETRACE_NO_EXPERT) continue;
      if (histogram != nullptr) {
        atomicAdd(histogram + piece.expert[n], 1u);
      } else {
        atomicAdd(counts + piece.expert[n], 1ull);
      }
    }
  }
  // Call it from all threads, after their last add().
  __device__ void flush() const {
    if (histogram == nullptr) return;
    __syncthreads();
    for (unsigned e = threadIdx.x; e < num_experts; e += blockDim.x) {
      if (histogram[e] != 0) atomicAdd(counts + e, static_cast<unsigned long long>(histogram[e]));
    }
  }
};

// For one thread of each block, in a launch that ends its step. Returns true in the last block of
// the grid, which publishes what all blocks have written.
__device__ bool takes_last_ticket(ControlBlock& control) {
  if (gridDim.x == 1) return true;
  // release: the block's stores come before its ticket. acquire: the block with the last ticket
  // comes after the stores of all blocks (models/ticket_model.cpp).
  if (take_ticket(control.ticket) != gridDim.x - 1) return false;
  control.ticket = 0;  // for the next step
  return true;
}

// kUnits: 64-byte units of a record. kMost: maximum layers. The last warp of a block updates the
// tally. Each thread of the others writes one 16-byte piece of a record, so that a warp's stores
// are consecutive and whole cache lines leave the GPU.
template <unsigned kUnits, bool kVectors, unsigned kMost>
__device__ __forceinline__ void write_rows(const HookView& view, const RouteShape& shape,
                                           const LayerList<kMost>& list, bool use_histogram) {
  constexpr RouteLayout layout = RouteLayout::of_units(kUnits);
  constexpr unsigned kPieces = layout.pieces();
  const unsigned writers = blockDim.x - kWarp;
  const bool is_tally_thread = threadIdx.x == writers;
  ControlBlock& control = *view.control;
  if (threadIdx.x >= writers)
    load_launch_state(block_state(), control.state, threadIdx.x - writers);

  // Load the routing before the step is known, so that both loads are in flight together. Padding
  // rows are loaded too, but nothing else happens to them.
  const unsigned block_rows = writers / kPieces;
  const std::uint32_t index = blockIdx.x * block_rows + threadIdx.x / kPieces;
  const std::uint32_t entry = kMost == 1 ? 0 : index / shape.rows;
  const std::uint32_t row = index - entry * shape.rows;
  const std::uint32_t piece = threadIdx.x % kPieces;
  const bool exists = threadIdx.x < block_rows * kPieces && entry < list.count && row < shape.rows;
  std::int32_t layer = list.layer[0];
  Piece loaded{};
  if (exists) {
    layer = list.layer[entry];
    const TensorPair routes = list.tensors[entry];
    const std::uint64_t begin = std::uint64_t{row} * shape.top_k;
    loaded = kVectors ? load_piece_by_vectors<kUnits>(shape, routes, piece, begin)
                      : load_piece<kUnits>(shape, routes, piece, begin);
  }
  if (use_histogram) {
    for (unsigned e = threadIdx.x; e < view.num_experts; e += blockDim.x) block_histogram()[e] = 0;
  }
  __syncthreads();
  if (threadIdx.x == writers + kBegunWord) add_share(control.state);

  // From here on, all blocks compute the same values.
  const LaunchState& state = block_state();
  const unsigned newer = begins_with(state.begun, state.tallies[0].end, state.tallies[1].end);
  const StepTally& tally = state.tallies[newer];
  const StepArguments& step = state.step;
  const Wanted<kMost> wanted(step, tally, list);
  const std::int32_t last = wanted.last();
  if (last < 0) return;

  const std::uint32_t rows = min(shape.rows, step.rows);
  const std::uint64_t first = tally.claimed;
  const std::uint64_t room = known_room(view, tally);
  const bool record = step.record != 0;
  const bool step_ends = wanted.contains(step.last_layer);
  // Publish mid-step if many records of earlier launches are pending.
  const bool publishes = record & !step_ends & (first - tally.published >= view.publish_every);
  const std::uint32_t all_rows = wanted.count() * rows;
  const std::uint32_t taken = !record           ? 0
                              : room < all_rows ? static_cast<std::uint32_t>(room)
                                                : all_rows;
  const auto update_tally = [&] {
    StepTally after = tally;
    after.end = end_of_launch(state.begun);
    after.claimed += taken;
    after.dropped += record ? all_rows - taken : 0;
    after.last_seen = last;
    if (publishes) after.published = first;
    if (step_ends) {
      end_step(view, step.step, after);
    } else if (record) {
      look_for_room(view, after, step.rows);
    }
    write_tally(control.state.tallies[1 - newer], after);
  };
  // Update the tally while the others write, unless this launch ends the step.
  if (is_tally_thread && blockIdx.x == 0 && !step_ends) {
    update_tally();
    if (publishes) {
      // Orders the stores of earlier launches before the published position.
      fence_system();
      publish(view, first);
    }
  }
  const bool mine = exists && row < rows && wanted.contains(layer);
  // The record's number within this launch.
  const std::uint32_t number = wanted.count_below(layer) * rows + row;
  if (mine && number < taken) {
    const std::uint64_t seq = first + number;
    const uint4 head =
        make_uint4(static_cast<std::uint32_t>(seq + 1), static_cast<std::uint32_t>(step.step), row,
                   static_cast<std::uint32_t>(layer));
    std::byte* slot = view.routes + (seq & (view.route_slots - 1)) * layout.stride();
    // Evict-first, because the GPU never reads a record again. Beside the atomics of the counts,
    // plain stores bring 29 GB/s of a stream of large layers into the ring, and these 45.
    __stcs(reinterpret_cast<uint4*>(slot + piece * RouteLayout::kPieceBytes),
           piece == 0 ? head : loaded.bits);
  }
  const Counter counter{view.counts + static_cast<std::uint64_t>(layer) * view.num_experts,
                        use_histogram ? block_histogram() : nullptr, view.num_experts};
  if (mine && layout.is_ids_piece(piece)) counter.add(loaded.experts);
  counter.flush();
  if (!step_ends) return;
  // After this barrier the block has written all its records.
  __syncthreads();
  if (!is_tally_thread) return;
  // Orders the block's records before its ticket, for the CPU too; the last block publishes.
  fence_system();
  if (takes_last_ticket(control)) update_tally();
}

template <unsigned kUnits, bool kVectors>
__global__ void __launch_bounds__(kWriters + kWarp, kBlocksPerMultiprocessor)
    record_layer(HookView view, RouteShape shape, const __grid_constant__ LayerList<1> list,
                 bool use_histogram) {
  write_rows<kUnits, kVectors, 1>(view, shape, list, use_histogram);
}

template <unsigned kUnits, bool kVectors>
__global__ void __launch_bounds__(kWriters + kWarp, kBlocksPerMultiprocessor)
    record_layers(HookView view, RouteShape shape,
                  const __grid_constant__ LayerList<kMostLayers> list) {
  write_rows<kUnits, kVectors, kMostLayers>(view, shape, list, false);
}

template <unsigned kMost>
LayerList<kMost> list_of(const RouteTensors* layers, std::size_t count) {
  LayerList<kMost> list{};
  list.count = static_cast<std::uint32_t>(count);
  for (std::size_t n = 0; n < count; ++n) {
    const std::uint32_t layer = layers[n].layer;
    list.tensors[n] = {layers[n].ids, layers[n].weights};
    list.layer[n] = static_cast<std::uint8_t>(layer);
    list.layers.words[layer / 64] |= std::uint64_t{1} << (layer % 64);
  }
  return list;
}

constexpr unsigned divide_up(unsigned number, unsigned by) {
  return (number + by - 1) / by;
}
constexpr unsigned whole_warps(unsigned threads) {
  return divide_up(threads, kWarp) * kWarp;
}

struct Grid {
  unsigned blocks;
  unsigned threads;
};

// The grid that writes `rows` records.
template <unsigned kUnits>
Grid grid_of(unsigned rows, unsigned most_writers) {
  constexpr unsigned kPieces = RouteLayout::of_units(kUnits).pieces();
  const unsigned writers = std::min(whole_warps(rows * kPieces), most_writers);
  return {divide_up(rows, writers / kPieces), writers + kWarp};
}

template <unsigned kUnits, bool kVectors>
cudaError_t launch_one(cudaStream_t stream, const HookView& view, const RouteShape& shape,
                       const RouteTensors& layer, bool in_line) {
  const bool many = shape.rows >= kHistogramRows;
  const Grid grid = grid_of<kUnits>(shape.rows, in_line ? kWritersInLine : kWriters);
  const bool use_histogram =
      many && view.num_experts <= kHistogramExpertsPerWriter * (grid.threads - kWarp);
  const std::size_t shared =
      sizeof(LaunchState) + (use_histogram ? view.num_experts * sizeof(unsigned) : 0);
  return launch_kernel(record_layer<kUnits, kVectors>, grid.blocks, grid.threads, shared, stream,
                       view, shape, list_of<1>(&layer, 1), use_histogram);
}

template <unsigned kUnits, bool kVectors>
cudaError_t launch_several(cudaStream_t stream, const HookView& view, const RouteShape& shape,
                           const RouteTensors* layers, std::size_t count) {
  const Grid grid = grid_of<kUnits>(shape.rows * static_cast<unsigned>(count), kWriters);
  return launch_kernel(record_layers<kUnits, kVectors>, grid.blocks, grid.threads,
                       sizeof(LaunchState), stream, view, shape,
                       list_of<kMostLayers>(layers, count));
}

template <unsigned kUnits>
cudaError_t launch(cudaStream_t stream, const HookView& view, const RouteShape& shape,
                   const RouteTensors* layers, std::size_t count, bool in_line) {
  const bool vectors = fits_vectors(shape, layers, count);
  if (count == 1) {
    return vectors ? launch_one<kUnits, true>(stream, view, shape, *layers, in_line)
                   : launch_one<kUnits, false>(stream, view, shape, *layers, in_line);
  }
  return vectors ? launch_several<kUnits, true>(stream, view, shape, layers, count)
                 : launch_several<kUnits, false>(stream, view, shape, layers, count);
}

// Loads kernels that launch_record() may launch.
template <class... Kernels>
cudaError_t load(Kernels... kernels) {
  cudaFuncAttributes attributes;
  for (const void* kernel : {reinterpret_cast<const void*>(kernels)...}) {
    if (const cudaError_t failed = cudaFuncGetAttributes(&attributes, kernel)) return failed;
  }
  return cudaSuccess;
}

template <unsigned kUnits>
cudaError_t load_kernels() {
  return load(record_layer<kUnits, false>, record_layer<kUnits, true>, record_layers<kUnits, false>,
              record_layers<kUnits, true>);
}

}  // namespace

cudaError_t launch_record(cudaStream_t stream, const HookView& view, const RouteShape& shape,
                          const RouteTensors* layers, std::size_t count, bool in_line) {
  switch (RouteLayout::of_top_k(view.top_k).units()) {
    case 1:
      return launch<1>(stream, view, shape, layers, count, in_line);
    case 2:
      return launch<2>(stream, view, shape, layers, count, in_line);
    case 3:
      return launch<3>(stream, view, shape, layers, count, in_line);
    default:  // RouteLayout::kMaxUnits
      return launch<4>(stream, view, shape, layers, count, in_line);
  }
}

cudaError_t load_record_kernels() {
  for (const cudaError_t failed :
       {load_kernels<1>(), load_kernels<2>(), load_kernels<3>(), load_kernels<4>()}) {
    if (failed != cudaSuccess) return failed;
  }
  return cudaSuccess;
}

}  // namespace moetrace::cuda
