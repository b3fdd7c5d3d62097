#include "producer/cuda/gpu_state.hpp"

#include <algorithm>
#include <optional>

#include "producer/cuda/kernels.hpp"

namespace moetrace {
namespace {

using cuda::ControlBlock;
using cuda::HookView;

// Publish mid-step once 4,096 records, or a quarter of the ring, are pending, so that a reader sees
// a long pass while it runs, and gives its slots back.
constexpr std::uint64_t kPublishEvery = 4096;
constexpr std::uint64_t kPublishEveryPartOfRing = 4;

// Allocates what a GpuState needs. After the first failure it does nothing more.
class GpuBuilder {
 public:
  // At least the number of its calls that make something.
  static constexpr std::size_t kMostMade = 8;

  explicit GpuBuilder(GpuObjects& made) : made_(made) { made_.reserve(kMostMade); }

  const std::optional<Error>& error() const { return error_; }

  bool run(const char* doing, cudaError_t result) {
    if (result != cudaSuccess) error_ = cuda_error(doing, result);
    return !error_;
  }
  // Maps [host, host + bytes) into the GPU and returns its address there.
  void* map(void* host, std::size_t bytes) {
    constexpr unsigned kFlags = cudaHostRegisterPortable | cudaHostRegisterMapped;
    void* address = nullptr;
    if (error_ || !run("registering the ring", cudaHostRegister(host, bytes, kFlags)))
      return nullptr;
    made_.add([host] { return cudaHostUnregister(host); });
    run("mapping the ring", cudaHostGetDevicePointer(&address, host, 0));
    return address;
  }
  // Zeroed device memory. The memset may still run on return.
  void* zeroed(std::size_t bytes) {
    void* address = nullptr;
    if (error_ || !run("allocating memory", cudaMalloc(&address, bytes))) return nullptr;
    made_.add([address] { return cudaFree(address); });
    run("clearing memory", cudaMemset(address, 0, bytes));
    return address;
  }
  // Of the same priority as the engine's own streams: a hook that ran first would take an expert
  // kernel's place.
  cudaStream_t stream() {
    cudaStream_t made = nullptr;
    if (error_ ||
        !run("creating a stream", cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking)))
      return nullptr;
    made_.add([made] { return cudaStreamDestroy(made); });
    return made;
  }
  cudaEvent_t event() {
    cudaEvent_t made = nullptr;
    if (error_ ||
        !run("creating an event", cudaEventCreateWithFlags(&made, cudaEventDisableTiming)))
      return nullptr;
    made_.add([made] { return cudaEventDestroy(made); });
    return made;
  }

 private:
  GpuObjects& made_;
  std::optional<Error> error_;
};

}  // namespace

void GpuObjects::take_back() {
  for (; !undo_.empty(); undo_.pop_back()) {
    // Clear its error: the engine must not find it.
    if (undo_.back()() != cudaSuccess) cudaGetLastError();
  }
}

Error cuda_error(const std::string& doing, cudaError_t error) {
  cudaGetLastError();
  return {ErrorCode::kSystem, "cuda hook: " + doing + ": " + cudaGetErrorString(error)};
}

Result<GpuState> make_gpu_state(const SegmentMap& map) {
  const moetrace_ring_header& header = map.header();
  const std::size_t cells = std::size_t{header.num_layers} * header.num_experts;
  GpuState gpu;
  GpuBuilder make(gpu.made);
  void* const ring = make.map(map.ring_address(), map.ring_bytes());
  void* const ctl = make.map(map.ctl(), sizeof(moetrace_ctl));
  void* const control = make.zeroed(sizeof(ControlBlock));
  void* const counts = make.zeroed(cells * sizeof(std::uint64_t));
  gpu.branch = make.stream();
  gpu.fork = make.event();
  gpu.joined = make.event();
  gpu.joined_captured = make.event();
  if (make.error() || !make.run("clearing memory", cudaDeviceSynchronize()) ||
      !make.run("loading the kernels", cuda::load_step_kernels()) ||
      !make.run("loading the kernels", cuda::load_record_kernels()))
    return *make.error();
  HookView& view = gpu.view;
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
  view.publish_every = std::min(kPublishEvery, header.route_slots / kPublishEveryPartOfRing);
  view.top_k = header.top_k;
  view.num_layers = header.num_layers;
  view.num_experts = header.num_experts;
  return gpu;
}

}  // namespace moetrace
