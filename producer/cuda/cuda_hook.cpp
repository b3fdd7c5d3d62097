// Host side of the CUDA hook: streams, branches, and the order of launches.
#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "producer/cuda/gpu_state.hpp"
#include "producer/cuda/kernels.hpp"
#include "producer/device_hook.hpp"
#include "shm/layer_mask.hpp"

namespace moetrace {
namespace {

// Mirror the counts at most this often: four times a second is enough to watch. The engine's stream
// waits for the copy over the bus, a few microseconds for a model of usual size.
constexpr std::int64_t kMirrorEveryNs = 250'000'000;

// Makes `device` the calling thread's current GPU during its lifetime. Usually it is that already.
class OnDevice {
 public:
  explicit OnDevice(int device) {
    if (cudaGetDevice(&before_) != cudaSuccess || before_ == device) return;
    changed_ = cudaSetDevice(device) == cudaSuccess;
  }
  ~OnDevice() {
    if (changed_) cudaSetDevice(before_);
  }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

 private:
  int before_ = 0;
  bool changed_ = false;
};

// The id of the capture that `stream` is in; 0 if it is not being captured.
unsigned long long capture_of(cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  unsigned long long id = 0;
  if (cudaStreamGetCaptureInfo(stream, &status, &id) != cudaSuccess) {
    cudaGetLastError();
    return 0;
  }
  return status == cudaStreamCaptureStatusActive ? id : 0;
}

class CudaHook final : public DeviceHook {
 public:
  CudaHook(const SegmentMap& map, int device, GpuState gpu)
      : consumed_(&map.ctl()->route_consumed),
        layers_(map.layers()),
        last_moe_layer_(static_cast<std::uint32_t>(last_layer(map.header().moe_layers))),
        device_(device),
        gpu_(std::move(gpu)) {}
  CudaHook(const CudaHook&) = delete;
  CudaHook& operator=(const CudaHook&) = delete;
  ~CudaHook() override {
    // After keep() it calls no CUDA, which a forked child must not do.
    if (gpu_.made.empty()) return;
    const OnDevice here(device_);
    gpu_.made.take_back();
  }

  void keep() override { gpu_.made.keep(); }

  bool captures(cudaStream_t stream) const override {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    if (cudaStreamIsCapturing(stream, &status) == cudaSuccess)
      return status != cudaStreamCaptureStatusNone;
    cudaGetLastError();
    return true;
  }

  void announce(cudaStream_t stream, const StepBlock& block) override {
    const OnDevice here(device_);
    // Left over from a pass that failed: its tensors may be gone, so forget its layers, and join
    // the branch that it never joined.
    deferred_.clear();
    join(stream);
    send(stream, block);
    if (block.time_ns - mirrored_ns_ < kMirrorEveryNs) return;
    mirrored_ns_ = block.time_ns;
    mirror_counts(stream);
  }

  void record(cudaStream_t stream, std::uint32_t layer, const void* ids, moetrace_type id_type,
              const void* weights, moetrace_type weight_type, std::uint32_t rows,
              Where where) override {
    if (!failure_.empty() || rows == 0 || layer >= layers_.num_layers()) return;
    // The rows of an unknown id type count as torn.
    if (id_type < MOETRACE_INT16 || id_type > MOETRACE_UINT32) return;
    if (weights != nullptr && (weight_type < MOETRACE_FLOAT32 || weight_type > MOETRACE_FLOAT16))
      weights = nullptr;
    const OnDevice here(device_);
    const cuda::RouteShape shape{id_type,
                                 weight_type,
                                 rows,
                                 weights != nullptr,
                                 layers_.top_k_of(layer),
                                 layers_.ids_of(layer)};
    const cuda::RouteTensors routes{layer, ids, weights};
    // Under capture don't fork for each layer: the graph's piece with this layer may end, unjoined,
    // before the last layer comes.
    if (where == Where::kDeferred && (rows <= cuda::kMostSharedRows || capture_of(stream) != 0)) {
      defer(stream, shape, routes);
      return;
    }
    launch_deferred(stream, Where::kBranch);
    launch(stream, shape, {&routes, 1}, where);
  }

  void join(cudaStream_t stream) override {
    launch_deferred(stream, Where::kInLine);
    join_branch(stream);
  }

  void close() override {
    const OnDevice here(device_);
    deferred_.clear();
    // Waits for all streams, whichever the engine used. After an error (of the engine's kernels, or
    // because the process is ending) the last snapshot stays valid; later records count as torn.
    if (cudaDeviceSynchronize() != cudaSuccess) {
      cudaGetLastError();
      return;
    }
    unjoined_ = {};
    send(gpu_.branch, {});
    mirror_counts(gpu_.branch);
    if (cudaStreamSynchronize(gpu_.branch) != cudaSuccess) cudaGetLastError();
  }

  const std::string& failure() const override { return failure_; }

 private:
  // Branches that are not joined yet: an eager one, and one of a capture. A capture in between does
  // not make the hook forget the eager one.
  struct Unjoined {
    bool eager = false;
    // The id of the capture; 0: none.
    unsigned long long capture = 0;
  };
  // Layers of the current pass that are deferred and not launched yet, in ascending order.
  struct Deferred {
    cudaStream_t stream = nullptr;
    bool captured = false;
    std::vector<cuda::RouteTensors> layers;
    // One for each layer.
    std::vector<cuda::RouteShape> shapes;

    void clear() {
      layers.clear();
      shapes.clear();
    }
    bool belongs_to(cudaStream_t other) const {
      return stream == other && captured == (capture_of(other) != 0);
    }
  };

  // Defers a layer. Under capture the pass's last layer launches all deferred ones, on a branch
  // beside its experts. Outside a capture the join does, which saves the host a fork.
  void defer(cudaStream_t stream, const cuda::RouteShape& shape, const cuda::RouteTensors& routes) {
    // Layers from here on are left over from a pass that broke off: this pass records them again,
    // or not at all.
    while (!deferred_.layers.empty() && deferred_.layers.back().layer >= routes.layer) {
      deferred_.layers.pop_back();
      deferred_.shapes.pop_back();
    }
    if (!deferred_.belongs_to(stream)) deferred_.clear();
    if (deferred_.layers.empty()) {
      deferred_.stream = stream;
      deferred_.captured = capture_of(stream) != 0;
    }
    deferred_.layers.push_back(routes);
    deferred_.shapes.push_back(shape);
    if (deferred_.captured && routes.layer >= last_moe_layer_)
      launch_deferred(stream, Where::kBranch);
  }

  // Launches the deferred layers, unless they come from another stream or another mode: a graph
  // must not keep the addresses of an eager pass, nor may one stream read what another one writes.
  // Pieces of a captured pass may be separate captures; the last one launches for all.
  void launch_deferred(cudaStream_t stream, Where where) {
    if (deferred_.layers.empty()) return;
    if (deferred_.belongs_to(stream)) {
      const OnDevice here(device_);
      const std::span layers(deferred_.layers);
      for (std::size_t first = 0, count = 0; first < layers.size(); first += count) {
        count = layers_per_kernel(first);
        launch(stream, deferred_.shapes[first], layers.subspan(first, count), where);
      }
    }
    deferred_.clear();
  }

  // How many deferred layers, from `first` on, one kernel can record.
  std::size_t layers_per_kernel(std::size_t first) const {
    const std::span shapes = std::span(deferred_.shapes).subspan(first);
    const std::size_t most = shapes.front().rows > cuda::kMostSharedRows ? 1 : cuda::kMostLayers;
    std::size_t count = 1;
    while (count < std::min(most, shapes.size()) && shapes[count] == shapes.front()) ++count;
    return count;
  }

  void launch(cudaStream_t stream, const cuda::RouteShape& shape,
              std::span<const cuda::RouteTensors> layers, Where where) {
    // Launches of one producer must never overlap. Those of the branch follow one another in its
    // stream; any other launch waits for the branch first.
    if (where == Where::kInLine) {
      join_branch(stream);
      check("recording",
            cuda::launch_record(stream, gpu_.view, shape, layers.data(), layers.size(), true));
      return;
    }
    check("forking", cudaEventRecord(gpu_.fork, stream));
    check("forking", cudaStreamWaitEvent(gpu_.branch, gpu_.fork, 0));
    check("recording",
          cuda::launch_record(gpu_.branch, gpu_.view, shape, layers.data(), layers.size(), false));
    const unsigned long long capture = capture_of(stream);
    check("joining",
          cudaEventRecord(capture != 0 ? gpu_.joined_captured : gpu_.joined, gpu_.branch));
    if (capture != 0) {
      unjoined_.capture = capture;
    } else {
      unjoined_.eager = true;
    }
  }

  void join_branch(cudaStream_t stream) {
    if (!unjoined_.eager && unjoined_.capture == 0) return;
    const OnDevice here(device_);
    const unsigned long long capture = capture_of(stream);
    if (capture == 0 && unjoined_.eager) {
      check("joining", cudaStreamWaitEvent(stream, gpu_.joined, 0));
      unjoined_.eager = false;
    }
    if (capture != 0 && unjoined_.capture == capture)
      check("joining", cudaStreamWaitEvent(stream, gpu_.joined_captured, 0));
    // If another capture had an unjoined branch, that capture is over, and its branch with it.
    unjoined_.capture = 0;
  }

  void send(cudaStream_t stream, const StepBlock& block) {
    const cuda::StepArguments step{block.step,
                                   // acquire: synchronizes with the release store in
                                   // RingReader::publish; the launch passes that order on.
                                   consumed_.load(std::memory_order_acquire), block.layers,
                                   block.rows, block.record ? 1u : 0u, last_layer(block.layers)};
    check("announcing", cuda::launch_announce(stream, gpu_.view, step));
  }

  void mirror_counts(cudaStream_t stream) {
    check("mirroring counts", cuda::launch_mirror_counts(stream, gpu_.view, 2 * mirrors_ + 1));
    ++mirrors_;
  }

  // The first error turns the hook off; announced rows that never come are torn.
  void check(const char* doing, cudaError_t error) {
    if (error != cudaSuccess && failure_.empty()) failure_ = cuda_error(doing, error).message;
  }

  const SharedWord consumed_;
  const LayerTable layers_;
  const std::uint32_t last_moe_layer_;
  const int device_;
  GpuState gpu_;
  Unjoined unjoined_;
  Deferred deferred_;
  std::uint64_t mirrors_ = 0;
  std::int64_t mirrored_ns_ = 0;
  std::string failure_;
};

}  // namespace

Result<std::unique_ptr<DeviceHook>> DeviceHook::open(const SegmentMap& map, int device) {
  int devices = 0;
  if (const auto failed = cudaGetDeviceCount(&devices))
    return cuda_error("looking for GPUs", failed);
  if (device < 0 || device >= devices) {
    return Error{ErrorCode::kSystem, "invalid value '" + std::to_string(device) +
                                         "' for cuda_device: found " + std::to_string(devices) +
                                         " GPUs; use a number below that"};
  }
  const OnDevice here(device);
  auto gpu = make_gpu_state(map);
  if (!gpu) return gpu.error();
  return std::make_unique<CudaHook>(map, device, std::move(*gpu));
}

}  // namespace moetrace
