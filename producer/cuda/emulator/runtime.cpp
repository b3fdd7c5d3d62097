// Streams, events, captures and graphs. Stricter than CUDA in two ways: work runs in any order that
// is allowed, never in a lucky one (device.hpp); and a call that CUDA forbids during a capture
// breaks the running capture, whatever its mode.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <set>
#include <unordered_set>
#include <utility>

#include "cuda_runtime.h"
#include "producer/cuda/emulator/device.hpp"
#include "producer/cuda/emulator/faults.hpp"
#include "producer/cuda/emulator/grid.hpp"

namespace moetrace::emulator {
namespace {

// A kernel launch within a graph.
struct Node {
  Grid grid;
  std::vector<const Node*> after;
};
using Nodes = std::vector<std::shared_ptr<const Node>>;

struct Capture {
  unsigned long long id;
  cudaStream_t origin;
  Nodes nodes;
  std::set<cudaStream_t> streams;
  bool broken = false;
};

}  // namespace
}  // namespace moetrace::emulator

using namespace moetrace::emulator;  // NOLINT: CUDA's names are global

// The stream's next work runs after `last`, or in a capture after `last_nodes`.
struct CUstream_st {
  WorkList last;
  std::shared_ptr<Capture> capture;
  std::vector<const Node*> last_nodes;
};
struct CUevent_st {
  WorkList last;
  std::weak_ptr<Capture> capture;
  bool captured = false;
  std::vector<const Node*> last_nodes;
};
struct CUgraph_st {
  Nodes nodes;
};
struct CUgraphExec_st {
  Nodes nodes;
  // The previous launch's work: launches of one graph don't overlap.
  WorkList last;
};

namespace moetrace::emulator {
namespace {

// The device's memory: a larger allocation fails.
constexpr std::size_t kMemoryBytes = std::size_t{1} << 32;

thread_local cudaError_t last_error = cudaSuccess;
// One host thread at a time may capture, which is enough for the tests.
std::shared_ptr<Capture> running_capture;
unsigned long long captures = 0;
// The null stream.
CUstream_st legacy_stream;

// Setup calls until one fails; negative: none fails.
int calls_until_failure = -1;
// For the next setup call; empty: nothing to do.
std::function<void()> act_at_setup_call;
Live live_objects;

cudaStream_t stream_of(cudaStream_t stream) {
  return stream != nullptr ? stream : &legacy_stream;
}

cudaError_t answer(cudaError_t error) {
  if (error == cudaSuccess && Device::get().broken()) error = cudaErrorIllegalAddress;
  if (error != cudaSuccess) last_error = error;
  return error;
}

// Whether this setup call must fail (faults.hpp).
bool fails_now() {
  if (const auto act = std::exchange(act_at_setup_call, nullptr)) act();
  return calls_until_failure >= 0 && calls_until_failure-- == 0;
}

// For calls that break a capture.
bool breaks_capture() {
  if (!running_capture) return false;
  running_capture->broken = true;
  return true;
}

template <class T>
void add_all(std::vector<T>& to, const std::vector<T>& from) {
  for (const T& one : from) {
    if (std::find(to.begin(), to.end(), one) == to.end()) to.push_back(one);
  }
}

// `nodes`, and everything that must run before them.
std::unordered_set<const Node*> with_all_before(std::vector<const Node*> nodes) {
  std::unordered_set<const Node*> found;
  while (!nodes.empty()) {
    const Node* const node = nodes.back();
    nodes.pop_back();
    if (found.insert(node).second)
      nodes.insert(nodes.end(), node->after.begin(), node->after.end());
  }
  return found;
}

}  // namespace

cudaError_t launch(cudaStream_t stream, dim3 blocks, dim3 threads, std::size_t shared_bytes,
                   std::function<void()> kernel) {
  stream = stream_of(stream);
  if (blocks.x == 0 || threads.x == 0 || threads.x > 1024 || shared_bytes > 48 * 1024)
    return answer(cudaErrorInvalidConfiguration);
  Grid grid{blocks, threads, shared_bytes, std::move(kernel)};
  if (stream->capture) {
    if (stream->capture->broken) return answer(cudaErrorStreamCaptureInvalidated);
    stream->capture->nodes.push_back(
        std::make_shared<const Node>(Node{std::move(grid), stream->last_nodes}));
    stream->last_nodes = {stream->capture->nodes.back().get()};
    return answer(cudaSuccess);
  }
  stream->last = {Device::get().add([grid = std::move(grid)] { return run(grid); }, stream->last)};
  return answer(cudaSuccess);
}

void fail_after(int calls) {
  calls_until_failure = calls;
}
bool cancel_failure() {
  const bool pending = calls_until_failure >= 0;
  calls_until_failure = -1;
  return pending;
}
void at_next_setup_call(std::function<void()> act) {
  act_at_setup_call = std::move(act);
}
Live live() {
  return live_objects;
}

}  // namespace moetrace::emulator

cudaError_t cudaGetLastError() {
  const cudaError_t error = cudaPeekAtLastError();
  last_error = cudaSuccess;
  return error;
}
cudaError_t cudaPeekAtLastError() {
  return Device::get().broken() ? cudaErrorIllegalAddress : last_error;
}
const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
    case cudaErrorIllegalAddress:
      return "an illegal memory access was encountered";
    default:
      return "operation not permitted in, or failed because of, a stream capture";
  }
}
cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return answer(cudaSuccess);
}
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return answer(cudaSuccess);
}
cudaError_t cudaSetDevice(int device) {
  return answer(device == 0 ? cudaSuccess : cudaErrorInvalidDevice);
}
cudaError_t cudaDeviceSynchronize() {
  if (fails_now()) return answer(cudaErrorMemoryAllocation);
  if (breaks_capture()) return answer(cudaErrorStreamCaptureUnsupported);
  Device::get().wait_for_all();
  return answer(cudaSuccess);
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes*, const void* kernel) {
  if (fails_now()) return answer(cudaErrorMemoryAllocation);
  return answer(kernel != nullptr ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaMalloc(void** address, std::size_t bytes) {
  if (breaks_capture()) return answer(cudaErrorStreamCaptureUnsupported);
  *address = fails_now() || bytes > kMemoryBytes ? nullptr : std::malloc(bytes);
  if (*address == nullptr) return answer(cudaErrorMemoryAllocation);
  ++live_objects.allocations;
  // Arbitrary content, as on real hardware.
  std::memset(*address, 0xA5, bytes);
  return answer(cudaSuccess);
}
cudaError_t cudaFree(void* address) {
  if (breaks_capture()) return answer(cudaErrorStreamCaptureUnsupported);
  Device::get().wait_for_all();
  if (address != nullptr) --live_objects.allocations;
  std::free(address);
  return answer(cudaSuccess);
}
cudaError_t cudaMemset(void* address, int value, std::size_t bytes) {
  if (fails_now()) return answer(cudaErrorMemoryAllocation);
  if (breaks_capture()) return answer(cudaErrorStreamCaptureUnsupported);
  legacy_stream.last = {Device::get().add(
      [=] { return std::memset(address, value, bytes) == address; }, legacy_stream.last)};
  return answer(cudaSuccess);
}
// From memory that is not pinned, so it may return once the bytes are staged.
cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind) {
  if (breaks_capture()) return answer(cudaErrorStreamCaptureUnsupported);
  const auto* begin = static_cast<const char*>(from);
  legacy_stream.last = {Device::get().add(
      [to, staged = std::vector<char>(begin, begin + bytes)] {
        return std::memcpy(to, staged.data(), staged.size()) == to;
      },
      legacy_stream.last)};
  return answer(cudaSuccess);
}
cudaError_t cudaHostRegister(void* address, std::size_t bytes, unsigned) {
  if (fails_now()) return answer(cudaErrorMemoryAllocation);
  if (address == nullptr || bytes == 0) return answer(cudaErrorInvalidValue);
  ++live_objects.registrations;
  return answer(cudaSuccess);
}
cudaError_t cudaHostUnregister(void*) {
  --live_objects.registrations;
  return answer(cudaSuccess);
}
cudaError_t cudaHostGetDevicePointer(void** device_address, void* address, unsigned) {
  if (fails_now()) return answer(cudaErrorMemoryAllocation);
  *device_address = address;
  return answer(cudaSuccess);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  if (fails_now()) return answer(cudaErrorMemoryAllocation);
  *stream = new CUstream_st;
  ++live_objects.streams;
  return answer(cudaSuccess);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  // Work that is already in it still runs.
  delete stream;
  --live_objects.streams;
  return answer(cudaSuccess);
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (breaks_capture()) return answer(cudaErrorStreamCaptureUnsupported);
  Device::get().wait_for(stream_of(stream)->last);
  return answer(cudaSuccess);
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  if (fails_now()) return answer(cudaErrorMemoryAllocation);
  *event = new CUevent_st;
  ++live_objects.events;
  return answer(cudaSuccess);
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  --live_objects.events;
  return answer(cudaSuccess);
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  stream = stream_of(stream);
  event->capture = stream->capture;
  event->captured = stream->capture != nullptr;
  event->last = event->captured ? WorkList{} : stream->last;
  event->last_nodes = stream->last_nodes;
  return answer(cudaSuccess);
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  stream = stream_of(stream);
  if (!event->captured) {
    if (stream->capture) {
      stream->capture->broken = true;
      return answer(cudaErrorStreamCaptureIsolation);
    }
    add_all(stream->last, event->last);
    return answer(cudaSuccess);
  }
  const auto capture = event->capture.lock();
  if (!capture) return answer(cudaErrorCapturedEvent);
  if (stream->capture && stream->capture != capture) {
    stream->capture->broken = capture->broken = true;
    return answer(cudaErrorStreamCaptureIsolation);
  }
  stream->capture = capture;
  capture->streams.insert(stream);
  add_all(stream->last_nodes, event->last_nodes);
  return answer(cudaSuccess);
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (running_capture) return answer(cudaErrorStreamCaptureUnmatched);
  running_capture = std::make_shared<Capture>(Capture{++captures, stream, {}, {stream}});
  stream->capture = running_capture;
  stream->last_nodes.clear();
  return answer(cudaSuccess);
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = nullptr;
  const auto capture = stream->capture;
  if (!capture || capture->origin != stream) return answer(cudaErrorStreamCaptureUnmatched);
  const auto joined = with_all_before(stream->last_nodes);
  running_capture.reset();
  for (cudaStream_t const one : capture->streams) {
    one->capture.reset();
    one->last_nodes.clear();
  }
  if (capture->broken) return answer(cudaErrorStreamCaptureInvalidated);
  if (joined.size() != capture->nodes.size()) return answer(cudaErrorStreamCaptureUnjoined);
  *graph = new CUgraph_st{capture->nodes};
  return answer(cudaSuccess);
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  unsigned long long id = 0;
  return cudaStreamGetCaptureInfo(stream, status, &id);
}
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, cudaStreamCaptureStatus* status,
                                     unsigned long long* id) {
  stream = stream_of(stream);
  *status = !stream->capture          ? cudaStreamCaptureStatusNone
            : stream->capture->broken ? cudaStreamCaptureStatusInvalidated
                                      : cudaStreamCaptureStatusActive;
  *id = stream->capture ? stream->capture->id : 0;
  return answer(cudaSuccess);
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  if (graph == nullptr) return answer(cudaErrorInvalidValue);
  *exec = new CUgraphExec_st{graph->nodes, {}};
  return answer(cudaSuccess);
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  if (exec == nullptr) return answer(cudaErrorInvalidValue);
  stream = stream_of(stream);
  if (stream->capture) {
    stream->capture->broken = true;
    return answer(cudaErrorStreamCaptureUnsupported);
  }
  WorkList before = stream->last;
  add_all(before, exec->last);
  WorkList all = before;
  std::vector<std::pair<const Node*, std::shared_ptr<Work>>> works;
  // In the order of their capture.
  for (const auto& node : exec->nodes) {
    WorkList after = before;
    for (const auto& [earlier, work] : works) {
      if (std::find(node->after.begin(), node->after.end(), earlier) != node->after.end())
        after.push_back(work);
    }
    works.emplace_back(node.get(), Device::get().add([node] { return run(node->grid); }, after));
    all.push_back(works.back().second);
  }
  exec->last = stream->last = {Device::get().add(nullptr, all)};
  return answer(cudaSuccess);
}
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, std::size_t* count) {
  if (graph == nullptr || nodes != nullptr) return answer(cudaErrorInvalidValue);
  *count = graph->nodes.size();
  return answer(cudaSuccess);
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return answer(cudaSuccess);
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;
  return answer(cudaSuccess);
}
