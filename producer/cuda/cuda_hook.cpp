// Host side of the CUDA hook: memory, streams, and the order of launches.
#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <span>
#include <vector>

#include "producer/cuda/kernels.hpp"
#include "producer/device_hook.hpp"
#include "shm/layer_mask.hpp"

namespace moetrace {
namespace {

using cuda::ControlBlock;
using cuda::HookView;

// The counts go over the bus at most this often: four times a second is enough for eyes, and the
// engine's stream waits for it, a few microseconds of a model of usual size.
constexpr std::int64_t kMirrorEveryNs = 250'000'000;

// Of so many records, and of one slot in so many, a launch does not leave those of earlier ones
// until their step ends: a reader finds what a long pass writes, and gives back its slots.
constexpr std::uint64_t kPublishEvery = 4096;
constexpr std::uint64_t kSlotsPerWaiting = 4;

// Makes a GPU the calling thread's for as long as it lives. Nearly always it is already.
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

Error cuda_error(const std::string& doing, cudaError_t error) {
  // Not ours to keep: the engine's next look at the last error must not find it.
  cudaGetLastError();
  return {ErrorCode::kSystem, "cuda hook: " + doing + ": " + cudaGetErrorString(error)};
}

// The capture that `stream` is in; 0 if it is in none.
unsigned long long capture_of(cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  unsigned long long id = 0;
  if (cudaStreamGetCaptureInfo(stream, &status, &id) != cudaSuccess) {
    cudaGetLastError();
    return 0;
  }
  return status == cudaStreamCaptureStatusActive ? id : 0;
}

bool same(const cuda::RouteShape& a, const cuda::RouteShape& b) {
  return a.id_type == b.id_type && a.weight_type == b.weight_type && a.rows == b.rows &&
         a.has_weights == b.has_weights;
}

// Everything that graphs may hold on to. Never freed: a graph that was captured may be replayed as
// long as the process lives.
struct GpuState {
  HookView view{};
  cudaStream_t branch = nullptr;  // hook kernels, beside the engine's stream
  cudaEvent_t fork = nullptr;
  cudaEvent_t joined = nullptr;           // the end of the branch
  cudaEvent_t joined_captured = nullptr;  // the same, within a capture
};

class CudaHook final : public DeviceHook {
 public:
  CudaHook(const SegmentMap& map, int device, const GpuState& gpu)
      : consumed_(&map.ctl()->route_consumed),
        num_layers_(map.header().num_layers),
        last_moe_layer_(static_cast<std::uint32_t>(last_layer(map.header().moe_layers))),
        device_(device),
        gpu_(gpu) {}

  bool captures(cudaStream_t stream) const override {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    if (cudaStreamIsCapturing(stream, &status) == cudaSuccess)
      return status != cudaStreamCaptureStatusNone;
    cudaGetLastError();
    return true;
  }

  void announce(cudaStream_t stream, const StepBlock& block) override {
    const OnDevice here(device_);
    deferred_.clear();  // of a pass that failed: nobody knows whether its tensors are still there
    join(stream);       // likewise, before it could
    send(stream, block);
    if (block.time_ns - mirrored_ns_ < kMirrorEveryNs) return;
    mirrored_ns_ = block.time_ns;
    mirror_counts(stream);
  }

  void record(cudaStream_t stream, std::uint32_t layer, const void* ids, moetrace_type id_type,
              const void* weights, moetrace_type weight_type, std::uint32_t rows,
              Where where) override {
    if (!failure_.empty() || rows == 0 || layer >= num_layers_) return;
    if (id_type < MOETRACE_INT16 || id_type > MOETRACE_UINT32) return;  // its rows count as torn
    if (weights != nullptr && (weight_type < MOETRACE_FLOAT32 || weight_type > MOETRACE_FLOAT16))
      weights = nullptr;
    const OnDevice here(device_);
    const cuda::RouteShape shape{id_type, weight_type, rows, weights != nullptr};
    const cuda::RouteTensors routes{layer, ids, weights};
    // Under capture never a fork for each layer: the piece of a graph that has this layer may end,
    // joined by nobody, before the last one comes.
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
    // Whatever streams the engine used. An error (of the engine's kernels, or because the process
    // is ending) leaves the last snapshot as the truth; what came after it counts as torn.
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
  // Branches that nobody has joined yet: one that runs, and one of a capture. A capture in between
  // does not make the hook forget the former.
  struct Unjoined {
    bool eager = false;
    unsigned long long capture = 0;  // 0: none
  };
  // Layers of the pass under way that have been told of and not launched, in ascending order.
  struct Deferred {
    cudaStream_t stream = nullptr;
    bool captured = false;
    std::vector<cuda::RouteTensors> layers;
    std::vector<cuda::RouteShape> shapes;  // of each

    void clear() {
      layers.clear();
      shapes.clear();
    }
    bool belongs_to(cudaStream_t other) const {
      return stream == other && captured == (capture_of(other) != 0);
    }
  };

  // Adds a layer. Under capture the last one of the pass takes all of them along, beside its
  // experts; otherwise the join does, which spares the host a fork.
  void defer(cudaStream_t stream, const cuda::RouteShape& shape, const cuda::RouteTensors& routes) {
    // What a pass that broke off has left comes back with another address, or not at all.
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

  // Pieces of a captured pass may be captures of their own: the last one launches for all. But a
  // graph must not keep the addresses of an eager pass, nor one stream read what another writes.
  void launch_deferred(cudaStream_t stream, Where where) {
    if (deferred_.layers.empty()) return;
    if (deferred_.belongs_to(stream)) {
      const OnDevice here(device_);
      const std::span layers(deferred_.layers);
      for (std::size_t first = 0, count = 0; first < layers.size(); first += count) {
        count = sharing(first);
        launch(stream, deferred_.shapes[first], layers.subspan(first, count), where);
      }
    }
    deferred_.clear();
  }

  // How many deferred layers, from this one on, one kernel can take.
  std::size_t sharing(std::size_t first) const {
    const std::span shapes = std::span(deferred_.shapes).subspan(first);
    const std::size_t most = shapes.front().rows > cuda::kMostSharedRows ? 1 : cuda::kMostLayers;
    std::size_t count = 1;
    while (count < std::min(most, shapes.size()) && same(shapes[count], shapes.front())) ++count;
    return count;
  }

  void launch(cudaStream_t stream, const cuda::RouteShape& shape,
              std::span<const cuda::RouteTensors> layers, Where where) {
    // Launches of one producer never overlap: those of the branch follow one another in it,
    // anything else waits for them.
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
    // A capture that ended, or broke off, took its branch with it.
    unjoined_.capture = 0;
  }

  void send(cudaStream_t stream, const StepBlock& block) {
    const cuda::StepArguments step{block.step,
                                   // acquire: the launch hands on what it synchronizes with, the
                                   // release store in RingReader::publish.
                                   consumed_.load(std::memory_order_acquire), block.layers,
                                   block.rows, block.record ? 1u : 0u, last_layer(block.layers)};
    check("announcing", cuda::launch_announce(stream, gpu_.view, step));
  }

  void mirror_counts(cudaStream_t stream) {
    check("mirroring counts", cuda::launch_mirror_counts(stream, gpu_.view, 2 * mirrors_ + 1));
    ++mirrors_;
  }

  // The first error turns the hook off; what was announced and does not come any more is torn.
  void check(const char* doing, cudaError_t error) {
    if (error != cudaSuccess && failure_.empty()) failure_ = cuda_error(doing, error).message;
  }

  const SharedWord consumed_;
  const std::uint32_t num_layers_;
  const std::uint32_t last_moe_layer_;
  const int device_;
  const GpuState gpu_;
  Unjoined unjoined_;
  Deferred deferred_;
  std::uint64_t mirrors_ = 0;
  std::int64_t mirrored_ns_ = 0;
  std::string failure_;
};

// Makes [host, host + bytes) reachable from the GPU and returns its address there.
cudaError_t map_into_gpu(void* host, std::size_t bytes, void** device_address) {
  const auto failed =
      cudaHostRegister(host, bytes, cudaHostRegisterPortable | cudaHostRegisterMapped);
  if (failed != cudaSuccess) return failed;
  return cudaHostGetDevicePointer(device_address, host, 0);
}

cudaError_t make_zeroed(void** device_address, std::size_t bytes) {
  const auto failed = cudaMalloc(device_address, bytes);
  return failed != cudaSuccess ? failed : cudaMemset(*device_address, 0, bytes);
}

}  // namespace

Result<std::unique_ptr<DeviceHook>> DeviceHook::open(const SegmentMap& map, int device) {
  int devices = 0;
  if (const auto failed = cudaGetDeviceCount(&devices))
    return cuda_error("looking for GPUs", failed);
  if (device < 0 || device >= devices) {
    return Error{ErrorCode::kSystem, "cuda_device " + std::to_string(device) + ": there are " +
                                         std::to_string(devices) +
                                         " GPUs here; give a number below that"};
  }
  const OnDevice here(device);
  const moetrace_ring_header& header = map.header();
  const std::size_t cells = std::size_t{header.num_layers} * header.num_experts;
  GpuState gpu;
  HookView& view = gpu.view;
  void *ring = nullptr, *ctl = nullptr, *control = nullptr, *counts = nullptr;
  const auto step = [](const char* doing, cudaError_t error) -> std::optional<Error> {
    return error == cudaSuccess ? std::nullopt : std::optional(cuda_error(doing, error));
  };
  const std::array failures{
      step("registering the ring", map_into_gpu(map.ring_address(), map.ring_bytes(), &ring)),
      step("registering the ring", map_into_gpu(map.ctl(), sizeof(moetrace_ctl), &ctl)),
      step("taking memory", make_zeroed(&control, sizeof(ControlBlock))),
      step("taking memory", make_zeroed(&counts, cells * sizeof(std::uint64_t))),
      step("taking memory", cudaDeviceSynchronize()),  // a memset may still run when it returns
      // Of the priority that the engine's own streams have: a hook that goes first takes an expert
      // kernel's place.
      step("making a stream", cudaStreamCreateWithFlags(&gpu.branch, cudaStreamNonBlocking)),
      step("making an event", cudaEventCreateWithFlags(&gpu.fork, cudaEventDisableTiming)),
      step("making an event", cudaEventCreateWithFlags(&gpu.joined, cudaEventDisableTiming)),
      step("making an event",
           cudaEventCreateWithFlags(&gpu.joined_captured, cudaEventDisableTiming)),
      step("loading its kernels", cuda::load_step_kernels()),
      step("loading its kernels", cuda::load_record_kernels())};
  for (const auto& failure : failures) {
    if (failure) return *failure;
  }
  const auto in_ring = [&](std::uint64_t offset) { return static_cast<std::byte*>(ring) + offset; };
  view.control = static_cast<ControlBlock*>(control);
  view.counts = static_cast<unsigned long long*>(counts);
  view.routes = in_ring(header.route_offset);
  auto* state = reinterpret_cast<moetrace_state*>(in_ring(header.state_offset));
  view.published = &state->published.routes;
  view.snapshots = state->snapshots;
  view.mirror_version = &state->counts.version;
  view.mirror_steps_done = &state->counts.steps_done;
  view.mirror = reinterpret_cast<std::uint64_t*>(in_ring(header.counts_offset));
  view.consumed = &static_cast<moetrace_ctl*>(ctl)->route_consumed;
  view.route_slots = header.route_slots;
  view.publish_every = std::min(kPublishEvery, header.route_slots / kSlotsPerWaiting);
  view.top_k = header.top_k;
  view.num_layers = header.num_layers;
  view.num_experts = header.num_experts;
  return std::unique_ptr<DeviceHook>(new CudaHook(map, device, gpu));
}

}  // namespace moetrace
