// The trace of a model on the CPU: each layer's routing goes through the operator moetrace::record.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/tracer.hpp"

namespace moetrace::engine {

class TorchTracer final : public Tracer {
 public:
  static Result<std::unique_ptr<Tracer>> open(const ModelConfig& config, int64_t seed);

  using RouterHook::routed;
  void routed(int64_t layer, at::Tensor& weights, const at::Tensor& ids) override;
  void announce(uint32_t rows, const std::vector<moetrace_span>& spans) override;
  void abort_pass() override;

 private:
  explicit TorchTracer(moetrace_producer* producer) : Tracer(producer) {}
};

}  // namespace moetrace::engine
