// The trace of a model on a GPU: announcements and records are kernels in the model's stream.
#pragma once

#include <memory>
#include <vector>

#include "producer/engine/tracing.hpp"

namespace moetrace::engine::gpu {

class CudaTracer final : public Tracer {
 public:
  // Where the routers' records run.
  enum class Where {
    kDeferred,  // of all layers at once, beside the last layer's experts
    kInLine,    // between router and experts; for comparison
  };

  static Result<std::unique_ptr<Tracer>> open(const ModelConfig& config, int64_t seed, int device,
                                              CUstream_st* stream, Where where = Where::kDeferred);

  using RouterHook::routed;
  void routed(int64_t layer, const DeviceRoutes& routes, CUstream_st* stream) override;
  void pass_enqueued(CUstream_st* stream) override;
  void abort_pass() override;

 private:
  CudaTracer(moetrace_producer* producer, CUstream_st* stream, Where where)
      : Tracer(producer), stream_(stream), where_(where) {}
  void begin_step(uint32_t rows, const std::vector<moetrace_span>& spans) override;

  CUstream_st* stream_;
  Where where_;
};

}  // namespace moetrace::engine::gpu
