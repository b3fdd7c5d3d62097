// What the tests of the CUDA hook share: a producer for the GPU, tensors in its memory, captured
// graphs.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <random>
#include <vector>

#include "producer/settings.hpp"
#include "producer/test_segment.hpp"

namespace moetrace::cuda {

#define ASSERT_CUDA(call) \
  ASSERT_EQ(cudaSuccess, (call)) << cudaGetErrorString(cudaPeekAtLastError())
#define EXPECT_CUDA(call) \
  EXPECT_EQ(cudaSuccess, (call)) << cudaGetErrorString(cudaPeekAtLastError())

// A copy of a vector in device memory.
template <class T>
class OnGpu {
 public:
  explicit OnGpu(const std::vector<T>& values) : OnGpu(values.size()) { set(values); }
  explicit OnGpu(std::size_t size) : size_(size) {
    EXPECT_CUDA(cudaMalloc(&data_, size * sizeof(T)));
  }
  OnGpu(const OnGpu&) = delete;
  OnGpu& operator=(const OnGpu&) = delete;
  ~OnGpu() { cudaFree(data_); }

  void set(const std::vector<T>& values) {
    EXPECT_CUDA(cudaMemcpy(data_, values.data(), values.size() * sizeof(T), cudaMemcpyDefault));
    // The copy may only be staged so far.
    EXPECT_CUDA(cudaDeviceSynchronize());
  }
  T* data() const { return static_cast<T*>(data_); }
  std::size_t size() const { return size_; }

 private:
  void* data_ = nullptr;
  std::size_t size_;
};

// A stream without implicit synchronization with the null stream.
class Stream {
 public:
  Stream() { EXPECT_CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream() { cudaStreamDestroy(stream_); }
  operator cudaStream_t() const { return stream_; }  // NOLINT: it is one
  void wait() const { EXPECT_CUDA(cudaStreamSynchronize(stream_)); }

 private:
  cudaStream_t stream_ = nullptr;
};

// A graph of what `work` enqueues on `stream`.
class Graph {
 public:
  Graph(cudaStream_t stream, const std::function<void()>& work) {
    EXPECT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    work();
    EXPECT_CUDA(cudaStreamEndCapture(stream, &graph_));
    EXPECT_CUDA(cudaGraphInstantiate(&exec_, graph_, 0));
  }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  ~Graph() {
    cudaGraphExecDestroy(exec_);
    cudaGraphDestroy(graph_);
  }
  void replay(cudaStream_t stream) const { EXPECT_CUDA(cudaGraphLaunch(exec_, stream)); }
  std::size_t nodes() const {
    std::size_t count = 0;
    EXPECT_CUDA(cudaGraphGetNodes(graph_, nullptr, &count));
    return count;
  }

 private:
  cudaGraph_t graph_ = nullptr;
  cudaGraphExec_t exec_ = nullptr;
};

// A producer whose ring the GPU writes, and a reader of the ring.
class GpuProducer {
 public:
  explicit GpuProducer(const moetrace_ring_header& header = small_header(),
                       const SegmentSizes& sizes = kSmallSizes,
                       const std::vector<moetrace_layer_entry>& layers = {}) {
    Settings settings;
    settings.directory = directory_.path();
    settings.session = "default";
    settings.sizes = sizes;
    settings.header = header;
    settings.layers = layers;
    settings.header.claimer = MOETRACE_CLAIMER_GPU;
    settings.cuda_device = 0;
    auto opened = RingProducer::open(settings);
    if (!opened) throw std::runtime_error(opened.error().message);
    producer_ = std::move(*opened);
    reader_ = std::make_unique<SegmentReader>(producer_->map());
  }

  RingProducer& operator*() const { return *producer_; }
  RingProducer* operator->() const { return producer_.get(); }
  SegmentReader& reader() const { return *reader_; }
  const TestDirectory& directory() const { return directory_; }

  bool announce(cudaStream_t stream, std::uint32_t rows,
                const std::vector<moetrace_span>& spans = {}) const {
    return producer_->begin_step(stream, rows, spans);
  }
  // Records one layer. Joins at once, unless the layer is deferred.
  template <class Id, class Weight>
  void record(cudaStream_t stream, std::uint32_t layer, const OnGpu<Id>& ids, moetrace_type id_type,
              const OnGpu<Weight>& weights, moetrace_type weight_type, std::uint32_t rows,
              DeviceHook::Where where = DeviceHook::Where::kBranch) const {
    producer_->device_hook()->record(stream, layer, ids.data(), id_type, weights.data(),
                                     weight_type, rows, where);
    if (where != DeviceHook::Where::kDeferred) join(stream);
  }
  void join(cudaStream_t stream) const { producer_->device_hook()->join(stream); }
  // Zeros before the first.
  moetrace_snapshot snapshot() const {
    return read_snapshot(producer_->map()).value_or(moetrace_snapshot{});
  }
  std::vector<std::uint64_t> counts() const {
    const moetrace_ring_header& header = producer_->map().header();
    const std::uint64_t* table = producer_->map().counts();
    return {table, table + std::size_t{header.num_layers} * header.num_experts};
  }
  const moetrace_host_counters& host() const { return producer_->map().state()->host; }

 private:
  TestDirectory directory_;
  std::unique_ptr<RingProducer> producer_;
  std::unique_ptr<SegmentReader> reader_;
};

using Where = DeviceHook::Where;

// One layer's routing with the top-k of `header`, in host and device memory.
struct Routing {
  Routing(const moetrace_ring_header& header, std::uint32_t rows, unsigned seed = 1)
      : ids(std::size_t{rows} * header.top_k), weights(ids.size()) {
    std::mt19937 random(seed);
    for (std::size_t n = 0; n < ids.size(); ++n) {
      // Some ids are out of range.
      ids[n] = static_cast<std::int32_t>(random() % (header.num_experts + 2)) - 1;
      weights[n] = static_cast<float>(random()) / 4e9f;
    }
    gpu_ids = std::make_unique<OnGpu<std::int32_t>>(ids);
    gpu_weights = std::make_unique<OnGpu<float>>(weights);
  }
  std::vector<std::int32_t> ids;
  std::vector<float> weights;
  std::unique_ptr<OnGpu<std::int32_t>> gpu_ids;
  std::unique_ptr<OnGpu<float>> gpu_weights;
};

inline void record_all(const GpuProducer& gpu, cudaStream_t stream, const Routing& routing,
                       std::uint32_t rows, Where where = Where::kBranch) {
  const std::uint32_t layers = gpu->map().header().num_layers;
  for (std::uint32_t layer = 0; layer < layers; ++layer) {
    gpu.record(stream, layer, *routing.gpu_ids, MOETRACE_INT32, *routing.gpu_weights,
               MOETRACE_FLOAT32, rows, where);
  }
  gpu.join(stream);
}

inline constexpr SegmentSizes kRoomy{
    .route_slots = 1 << 14, .event_slots = 1024, .request_slots = 4};

}  // namespace moetrace::cuda
