// What a model tells of its routing.
#pragma once

#include <atomic>
#include <cstdint>

namespace at {
class Tensor;
}
struct CUstream_st;

namespace moetrace::engine {

// One layer's routing in device memory. Both arrays are [rows, top_k], contiguous, and stay as they
// are until the pass is over.
struct DeviceRoutes {
  const int32_t* ids;
  const float* weights;
  int64_t rows;   // padding included
  int64_t top_k;  // columns
};

// Told of each MoE layer's routing, in ascending layer order.
class RouterHook {
 public:
  // When a model on a GPU tells. (One on the CPU: before the experts of that layer run.)
  enum class When {
    kBehindPass,  // of all layers, once the whole pass and the copies of what it computes have been
                  // enqueued: a graph holds nothing of it, and nobody waits for it
    kInPass,      // behind the layer's router; while a graph is captured, once for all replays
    kInEagerPass,  // likewise, and the pass must not become a graph: the routing is read on the
                   // host
  };

  virtual ~RouterHook() = default;

  // From a model on the CPU. weights: float32 [rows, top_k]; ids: int64 [rows, top_k]. Must change
  // neither.
  virtual void routed(int64_t /*layer*/, at::Tensor& /*weights*/, const at::Tensor& /*ids*/) {}

  // From a model on a GPU: the router of `layer` has been enqueued in `stream`.
  virtual void routed(int64_t /*layer*/, const DeviceRoutes& /*routes*/, CUstream_st* /*stream*/) {}
  // All layers have been told of, and the last kernel that reads or writes their routing has been
  // enqueued.
  virtual void pass_enqueued(CUstream_st* /*stream*/) {}
  virtual When when() const { return When::kInPass; }

  // No other hook of this process has, or had, the same number: graphs are kept by it.
  uint64_t id() const { return id_; }

 private:
  static uint64_t next_id() {
    static std::atomic<uint64_t> last{0};
    return ++last;
  }
  uint64_t id_ = next_id();
};

}  // namespace moetrace::engine
