// What a model reports about its routing, and to whom.
#pragma once

#include <atomic>
#include <cstdint>

namespace at {
class Tensor;
}
struct CUstream_st;

namespace moetrace::engine {

// One layer's routing in device memory. Both arrays are [rows, top_k], contiguous, and keep their
// values until the pass ends.
struct DeviceRoutes {
  const int32_t* ids;
  const float* weights;
  int64_t rows;   // padding included
  int64_t top_k;  // columns
};

// A model calls its hook for each MoE layer, in ascending layer order.
class RouterHook {
 public:
  // When a model on a GPU calls routed(). A model on the CPU always calls it before the experts of
  // that layer run.
  enum class When {
    // For all layers, after the whole pass and the copies of its outputs have been enqueued. The
    // pass's graph contains nothing of the hook, and the copies do not wait for it.
    kAfterPass,
    // After each layer's router. While a graph is captured: once, for all its replays.
    kInPass,
    // After each layer's router, in an eager pass: the hook reads the routing on the host, which a
    // graph could not.
    kInEagerPass,
  };

  virtual ~RouterHook() = default;

  // From a model on the CPU. weights: float32 [rows, top_k]; ids: int64 [rows, top_k]. Do not
  // change either.
  virtual void routed(int64_t /*layer*/, at::Tensor& /*weights*/, const at::Tensor& /*ids*/) {}

  // From a model on a GPU: the router of `layer` has been enqueued in `stream`.
  virtual void routed(int64_t /*layer*/, const DeviceRoutes& /*routes*/, CUstream_st* /*stream*/) {}
  // All layers have been reported, and the last kernel that reads or writes their routing has been
  // enqueued.
  virtual void pass_enqueued(CUstream_st* /*stream*/) {}
  virtual When when() const { return When::kInPass; }

  // Unique among all hooks that this process ever makes: a DecodeGraph keeps its graphs by it.
  uint64_t id() const { return id_; }

 private:
  static uint64_t next_id() {
    static std::atomic<uint64_t> last{0};
    return ++last;
  }
  uint64_t id_ = next_id();
};

}  // namespace moetrace::engine
