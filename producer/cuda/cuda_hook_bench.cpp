// moetrace-cuda-hook-bench [--quick]: measures the cost of the CUDA hook, in three tables.
//
// 1. A captured graph of 24 stand-in MoE layers (bench_layer.hpp), replayed in turns without the
// hook,
//    with it, and with alternatives. CUDA events time each replay, its announcement included.
// 2. Launches back to back into the ring.
// 3. Host time of an announcement.
//
// A reader drains the ring meanwhile; the tables say how many records were dropped.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "producer/cuda/bench_drain.hpp"
#include "producer/cuda/bench_layer.hpp"
#include "producer/producer.h"
#include "shm/test_directory.hpp"

namespace moetrace::bench {
namespace {

constexpr std::uint32_t kLayers = 24;

void check(cudaError_t error, const char* doing) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "moetrace-cuda-hook-bench: %s: %s\n", doing, cudaGetErrorString(error));
  std::exit(1);
}

template <class T>
T* allocate(std::size_t count) {
  void* data = nullptr;
  check(cudaMalloc(&data, count * sizeof(T)), "allocating memory");
  check(cudaMemset(data, 0, count * sizeof(T)), "clearing memory");
  return static_cast<T*>(data);
}

struct Spread {
  double median;
  // Quartiles.
  double low, high;
};
Spread spread_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const auto at = [&](double part) {
    return values[static_cast<std::size_t>(part * static_cast<double>(values.size() - 1))];
  };
  return {at(0.5), at(0.25), at(0.75)};
}

// A producer with its own ring, and a reader of that ring.
struct Traced {
  explicit Traced(double ring_mb) {
    moetrace_options options;
    moetrace_options_init(&options, sizeof options);
    options.directory = directory.path().c_str();
    options.session = "default";
    options.ring_mb = ring_mb;
    options.num_layers = kLayers;
    options.num_experts = kExperts;
    options.top_k = kTopK;
    options.layers = "all";
    options.sample_every = 1;
    options.cuda_device = 0;
    char why[512] = "";
    producer = moetrace_open(&options, why, sizeof why);
    if (producer == nullptr) {
      std::fprintf(stderr, "moetrace-cuda-hook-bench: %s\n", why);
      std::exit(1);
    }
    drain = std::make_unique<Drain>(directory.path());
  }
  ~Traced() {
    drain.reset();
    moetrace_close(producer);
  }
  void announce(cudaStream_t stream, std::uint32_t rows) const {
    const moetrace_span span{0, 0, 0, rows};
    moetrace_step_begin_cuda(producer, stream, rows, &span, 1);
  }

  TestDirectory directory;
  moetrace_producer* producer = nullptr;
  std::unique_ptr<Drain> drain;
};

enum class Mode { kOff, kDeferred, kBranch, kInLine, kDeviceCopy, kStagedCopy };
constexpr Mode kModes[] = {Mode::kOff,    Mode::kDeferred,   Mode::kBranch,
                           Mode::kInLine, Mode::kDeviceCopy, Mode::kStagedCopy};
const char* name_of(Mode mode) {
  switch (mode) {
    case Mode::kOff:
      return "off";
    case Mode::kDeferred:
      return "hook, side branch, a kernel a pass";
    case Mode::kBranch:
      return "hook, side branch, a kernel a layer";
    case Mode::kInLine:
      return "hook, in line";
    case Mode::kDeviceCopy:
      return "copy to device memory only";
    default:
      return "copy to device, then to pinned memory";
  }
}
bool is_hook(Mode mode) {
  return mode == Mode::kDeferred || mode == Mode::kBranch || mode == Mode::kInLine;
}

// A captured step of 24 layers.
class StepGraph {
 public:
  StepGraph(cudaStream_t stream, Mode mode, std::uint32_t rows, const Traced& traced,
            const std::byte* weights_from)
      : rows_(rows) {
    const std::size_t entries = std::size_t{rows} * kTopK;
    auto* all_ids = allocate<std::int32_t>(kLayers * entries);
    auto* all_weights = allocate<float>(kLayers * entries);
    auto* sink = allocate<std::uint32_t>(1);
    auto* staged = allocate<std::byte>(kLayers * entries * 8);
    check(cudaMallocHost(&pinned_, kLayers * entries * 8), "allocating pinned memory");
    buffers_ = {all_ids, all_weights, sink, staged};
    const auto bytes =
        static_cast<std::uint64_t>(distinct_experts(rows) * static_cast<double>(kExpertBytes)) /
        48 * 48;
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "capturing");
    for (std::uint32_t layer = 0; layer < kLayers; ++layer) {
      std::int32_t* ids = all_ids + layer * entries;
      float* weights = all_weights + layer * entries;
      launch_router(stream, ids, weights, rows, layer);
      const auto arguments = [&](auto record) {
        record(traced.producer, stream, layer, ids, MOETRACE_INT32, weights, MOETRACE_FLOAT32,
               rows);
      };
      if (mode == Mode::kDeferred) arguments(moetrace_record_cuda_deferred);
      if (mode == Mode::kBranch) arguments(moetrace_record_cuda);
      if (mode == Mode::kInLine) arguments(moetrace_record_cuda_in_line);
      if (mode == Mode::kDeviceCopy || mode == Mode::kStagedCopy) {
        std::byte* to = staged + layer * entries * 8;
        check(cudaMemcpyAsync(to, ids, entries * 4, cudaMemcpyDeviceToDevice, stream), "copying");
        check(cudaMemcpyAsync(to + entries * 4, weights, entries * 4, cudaMemcpyDeviceToDevice,
                              stream),
              "copying");
      }
      launch_experts(stream, weights_from, bytes, sink);
      if (mode == Mode::kBranch) moetrace_join(traced.producer, stream);
    }
    moetrace_join(traced.producer, stream);
    if (mode == Mode::kStagedCopy) {
      check(cudaMemcpyAsync(pinned_, staged, kLayers * entries * 8, cudaMemcpyDeviceToHost, stream),
            "copying");
    }
    cudaGraph_t graph = nullptr;
    check(cudaStreamEndCapture(stream, &graph), "capturing");
    check(cudaGraphInstantiate(&exec_, graph, 0), "capturing");
    check(cudaGraphDestroy(graph), "capturing");
  }
  StepGraph(const StepGraph&) = delete;
  StepGraph& operator=(const StepGraph&) = delete;
  ~StepGraph() {
    cudaGraphExecDestroy(exec_);
    for (void* buffer : buffers_) cudaFree(buffer);
    cudaFreeHost(pinned_);
  }
  void replay(cudaStream_t stream) const { check(cudaGraphLaunch(exec_, stream), "replaying"); }
  std::uint32_t rows() const { return rows_; }

 private:
  std::uint32_t rows_;
  cudaGraphExec_t exec_ = nullptr;
  std::vector<void*> buffers_;
  void* pinned_ = nullptr;
};

// Milliseconds of each replay; the modes take turns.
std::vector<std::vector<double>> time_modes(cudaStream_t stream, const Traced& traced,
                                            const std::vector<std::unique_ptr<StepGraph>>& graphs,
                                            int replays) {
  constexpr int kWarmUp = 5;
  std::vector<std::vector<double>> times(graphs.size());
  std::vector<std::pair<cudaEvent_t, cudaEvent_t>> events(graphs.size());
  for (auto& [begin, end] : events) {
    check(cudaEventCreate(&begin), "creating an event");
    check(cudaEventCreate(&end), "creating an event");
  }
  for (int n = 0; n < replays + kWarmUp; ++n) {
    // Enqueue a whole round at once, so that the host stays ahead of the GPU. The order of the
    // modes rotates.
    for (std::size_t turn = 0; turn < graphs.size(); ++turn) {
      const std::size_t m = (turn + static_cast<std::size_t>(n)) % graphs.size();
      check(cudaEventRecord(events[m].first, stream), "timing");
      if (is_hook(kModes[m])) traced.announce(stream, graphs[m]->rows());
      graphs[m]->replay(stream);
      check(cudaEventRecord(events[m].second, stream), "timing");
    }
    check(cudaStreamSynchronize(stream), "replaying");
    for (std::size_t m = 0; m < graphs.size() && n >= kWarmUp; ++m) {
      float ms = 0;
      check(cudaEventElapsedTime(&ms, events[m].first, events[m].second), "timing");
      times[m].push_back(ms);
    }
  }
  for (const auto& [begin, end] : events) {
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
  }
  return times;
}

void print_layers(bool quick) {
  std::printf(
      "\nAdded time in a captured graph of %u MoE layers (60 experts, top-4), announcement "
      "included; median difference to `off` in the same round [quartiles]\n\n"
      "| rows | | us a step | added us a layer |\n|---|---|---|---|\n",
      kLayers);
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "creating a stream");
  auto* weights = allocate<std::byte>(kExperts * kExpertBytes);
  const Traced traced(256);
  for (const std::uint32_t rows : {1u, 32u, 256u, 2048u}) {
    std::vector<std::unique_ptr<StepGraph>> graphs;
    for (const Mode mode : kModes)
      graphs.push_back(std::make_unique<StepGraph>(stream, mode, rows, traced, weights));
    const auto times = time_modes(stream, traced, graphs, quick ? 3 : rows == 1 ? 1000 : 200);
    for (std::size_t m = 0; m < std::size(kModes); ++m) {
      std::vector<double> added;
      for (std::size_t n = 0; n < times[m].size(); ++n)
        added.push_back((times[m][n] - times[0][n]) * 1000 / kLayers);
      const Spread step = spread_of(times[m]);
      const Spread more = spread_of(added);
      std::printf("| %u | %s | %.1f | ", rows, name_of(kModes[m]), step.median * 1000);
      if (m == 0) {
        std::printf("|\n");
      } else {
        std::printf("%+.2f [%+.2f, %+.2f] |\n", more.median, more.low, more.high);
      }
    }
  }
  std::printf("\nDropped: %llu of %llu records\n",
              static_cast<unsigned long long>(traced.drain->dropped()),
              static_cast<unsigned long long>(traced.drain->records() + traced.drain->dropped()));
  cudaFree(weights);
  cudaStreamDestroy(stream);
}

void print_throughput(bool quick) {
  std::printf(
      "\nThroughput into the ring, launches back to back in line; beside it the same bytes "
      "by cudaMemcpyAsync into pinned memory\n\n"
      "| rows a launch | us a launch | hook GB/s: median [quartiles] | memcpy GB/s |\n"
      "|---|---|---|---|\n");
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "creating a stream");
  const Traced traced(256);
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
  check(cudaEventCreate(&begin), "creating an event");
  check(cudaEventCreate(&end), "creating an event");
  std::uint64_t recorded = 0;
  for (const std::uint32_t rows : {256u, 1024u, 4096u, 16384u}) {
    const std::size_t entries = std::size_t{rows} * kTopK;
    auto* ids = allocate<std::int32_t>(entries);
    auto* weights = allocate<float>(entries);
    const std::size_t bytes = std::size_t{rows} * 64;
    auto* from = allocate<std::byte>(bytes);
    void* pinned = nullptr;
    check(cudaMallocHost(&pinned, bytes), "allocating pinned memory");
    launch_router(stream, ids, weights, rows, 1);
    std::vector<double> hook;
    std::vector<double> copy;
    for (int n = 0; n < (quick ? 2 : 60); ++n) {
      float ms = 0;
      traced.announce(stream, rows);
      check(cudaEventRecord(begin, stream), "timing");
      for (std::uint32_t layer = 0; layer < kLayers; ++layer) {
        moetrace_record_cuda_in_line(traced.producer, stream, layer, ids, MOETRACE_INT32, weights,
                                     MOETRACE_FLOAT32, rows);
      }
      check(cudaEventRecord(end, stream), "timing");
      check(cudaStreamSynchronize(stream), "recording");
      check(cudaEventElapsedTime(&ms, begin, end), "timing");
      hook.push_back(ms);
      recorded += std::uint64_t{rows} * kLayers;
      traced.drain->wait_for(recorded - traced.drain->dropped());
      check(cudaEventRecord(begin, stream), "timing");
      for (std::uint32_t layer = 0; layer < kLayers; ++layer)
        check(cudaMemcpyAsync(pinned, from, bytes, cudaMemcpyDeviceToHost, stream), "copying");
      check(cudaEventRecord(end, stream), "timing");
      check(cudaStreamSynchronize(stream), "copying");
      check(cudaEventElapsedTime(&ms, begin, end), "timing");
      copy.push_back(ms);
    }
    const Spread time = spread_of(hook);
    const auto rate = [&](double ms) { return static_cast<double>(bytes) * kLayers / ms / 1e6; };
    std::printf("| %u | %.1f | %.1f [%.1f, %.1f] | %.1f |\n", rows, time.median * 1000 / kLayers,
                rate(time.median), rate(time.high), rate(time.low), rate(spread_of(copy).median));
    cudaFree(ids);
    cudaFree(weights);
    cudaFree(from);
    cudaFreeHost(pinned);
  }
  std::printf("\nDropped: %llu of %llu records\n",
              static_cast<unsigned long long>(traced.drain->dropped()),
              static_cast<unsigned long long>(recorded));
  cudaStreamDestroy(stream);
}

void print_announcement(bool quick) {
  std::printf(
      "\nHost time of an announcement (moetrace_step_begin_cuda)\n\n"
      "| spans | us: median [quartiles] |\n|---|---|\n");
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "creating a stream");
  const Traced traced(64);
  for (const std::uint32_t spans : {1u, 32u, 256u}) {
    std::vector<moetrace_span> all;
    for (std::uint32_t n = 0; n < spans; ++n) all.push_back({0, n, n, 1});
    std::vector<double> times;
    for (int n = 0; n < (quick ? 10 : 2000); ++n) {
      const auto start = std::chrono::steady_clock::now();
      moetrace_step_begin_cuda(traced.producer, stream, spans, all.data(), all.size());
      times.push_back(
          std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start)
              .count());
      check(cudaStreamSynchronize(stream), "announcing");
    }
    const Spread time = spread_of(times);
    std::printf("| %u | %.1f [%.1f, %.1f] |\n", spans, time.median, time.low, time.high);
  }
  cudaStreamDestroy(stream);
}

}  // namespace
}  // namespace moetrace::bench

int main(int argc, char** argv) {
  using namespace moetrace::bench;
  const bool quick = argc > 1 && std::strcmp(argv[1], "--quick") == 0;
  if (argc > (quick ? 2 : 1)) {
    std::fprintf(stderr, "moetrace-cuda-hook-bench: unknown argument '%s'; use --quick or none\n",
                 argv[quick ? 2 : 1]);
    return 2;
  }
  cudaDeviceProp gpu;
  check(cudaGetDeviceProperties(&gpu, 0), "looking for a GPU");
  std::printf("%s\n", gpu.name);
  print_layers(quick);
  print_throughput(quick);
  print_announcement(quick);
  return 0;
}
