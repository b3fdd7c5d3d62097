// The trace of a model on a GPU: announcements and records are kernels in the model's stream.
#pragma once

#include <memory>
#include <vector>

#include "engine/tracing.hpp"

namespace moetrace::engine::gpu {

class CudaTracer final : public Tracer {
 public:
  // Where announcement and records run. The second and the third are there for comparison.
  enum class Where {
    kBehindPass,  // both behind the pass, the records of all layers by one kernel
    kInGraph,     // records within the pass's graph: one kernel, beside the last layer's experts
    kInLine,      // likewise, but a kernel a layer, between router and experts
  };

  static Result<std::unique_ptr<Tracer>> open(const ModelConfig& config, int64_t seed, int device,
                                              CUstream_st* stream,
                                              Where where = Where::kBehindPass);

  using RouterHook::routed;
  void routed(int64_t layer, const DeviceRoutes& routes, CUstream_st* stream) override;
  void pass_enqueued(CUstream_st* stream) override;
  When when() const override {
    return where_ == Where::kBehindPass ? When::kBehindPass : When::kInPass;
  }
  void settle() override;
  void abort_pass() override;

 private:
  CudaTracer(moetrace_producer* producer, CUstream_st* stream, Where where)
      : Tracer(producer), stream_(stream), where_(where) {}
  void begin_step(uint32_t rows, const std::vector<moetrace_span>& spans) override;
  void send_announcement();

  CUstream_st* stream_;
  Where where_;
  // What has been announced to this object, and not to the GPU yet; 0 rows: nothing.
  uint32_t rows_ = 0;
  std::vector<moetrace_span> spans_;
};

}  // namespace moetrace::engine::gpu
