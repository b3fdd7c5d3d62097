// The trace of a model on the CPU: the routing of each layer goes through the operator
// moetrace::record.
#pragma once

#include <memory>
#include <vector>

#include "engine/tracing.hpp"

namespace moetrace::engine {

class HostTracer final : public Tracer {
 public:
  static Result<std::unique_ptr<Tracer>> open(const ModelConfig& config, int64_t seed);

  using RouterHook::routed;
  void routed(int64_t layer, at::Tensor& weights, const at::Tensor& ids) override;
  void abort_pass() override;

 private:
  explicit HostTracer(moetrace_producer* producer) : Tracer(producer) {}
  void begin_step(uint32_t rows, const std::vector<moetrace_span>& spans) override;
};

}  // namespace moetrace::engine
