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

// Told of each MoE layer's routing, in ascending layer order, before the experts run.
class RouterHook {
 public:
  virtual ~RouterHook() = default;

  // From a model on the CPU. weights: float32 [rows, top_k]; ids: int64 [rows, top_k]. Must change
  // neither.
  virtual void routed(int64_t /*layer*/, at::Tensor& /*weights*/, const at::Tensor& /*ids*/) {}

  // From a model on a GPU: the router of `layer` has been enqueued in `stream`. While a graph is
  // captured this is called once and stands for all replays.
  virtual void routed(int64_t /*layer*/, const DeviceRoutes& /*routes*/, CUstream_st* /*stream*/) {}
  // The last kernel of the pass that reads or writes its routing has been enqueued.
  virtual void pass_enqueued(CUstream_st* /*stream*/) {}
  // False: the hook reads the routing on the host, so its passes must not become graphs.
  virtual bool capturable() const { return true; }

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
