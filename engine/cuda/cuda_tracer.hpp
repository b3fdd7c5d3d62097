// The trace of a model on a GPU: announcements and records are kernels in the model's stream.
#pragma once

#include <memory>
#include <vector>

#include "engine/tracer.hpp"

namespace moetrace::engine::gpu {

class CudaTracer final : public Tracer {
 public:
  // Where announcement and records run. The engine uses kAfterPass; the benchmark compares it with
  // the other two, which announce before the pass and record within it.
  enum class Where {
    kAfterPass,  // both after the pass; one kernel records all layers
    kInGraph,    // in the pass's graph: one kernel, beside the last layer's experts
    kInLine,     // in the pass's graph: one kernel a layer, between its router and its experts
  };

  static Result<std::unique_ptr<Tracer>> open(const ModelConfig& config, int64_t seed, int device,
                                              CUstream_st* stream, Where where = Where::kAfterPass);

  using RouterHook::routed;
  void routed(int64_t layer, const DeviceRoutes& routes, CUstream_st* stream) override;
  void pass_enqueued(CUstream_st* stream) override;
  When when() const override {
    return where_ == Where::kAfterPass ? When::kAfterPass : When::kInPass;
  }
  void announce(uint32_t rows, const std::vector<moetrace_span>& spans) override;
  void settle() override;
  void abort_pass() override;

 private:
  CudaTracer(moetrace_producer* producer, CUstream_st* stream, Where where)
      : Tracer(producer), stream_(stream), where_(where) {}
  void send_announcement();

  CUstream_st* stream_;
  Where where_;
  // The announcement that has yet to be enqueued; 0 rows: none is pending.
  uint32_t rows_ = 0;
  std::vector<moetrace_span> spans_;
};

}  // namespace moetrace::engine::gpu
