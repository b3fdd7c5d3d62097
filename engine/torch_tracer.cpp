#include "engine/torch_tracer.hpp"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/version.h>

#include <cstdint>

#include "producer/torch/torch_op.hpp"

namespace moetrace::engine {

namespace {

using Record = void(at::Tensor&, const at::Tensor&, int64_t, int64_t);

const c10::TypedOperatorHandle<Record>& record_op() {
  static const auto handle = [] {
    // Calling into the operator's library makes the linker keep it, and with it the registration.
    torch_record_schema();
    return c10::Dispatcher::singleton()
        .findSchemaOrThrow(MOETRACE_TORCH_RECORD, "")
        .typed<Record>();
  }();
  return handle;
}

}  // namespace

Result<std::unique_ptr<Tracer>> TorchTracer::open(const ModelConfig& config, int64_t seed) {
  auto producer = open_producer(config, seed, {"cpu", TORCH_VERSION, -1});
  if (!producer) return producer.error();
  record_op();  // looks the operator up before the first pass
  return std::unique_ptr<Tracer>(new TorchTracer(*producer));
}

void TorchTracer::routed(int64_t layer, at::Tensor& weights, const at::Tensor& ids) {
  record_op().call(weights, ids, layer, reinterpret_cast<int64_t>(producer()));
}

void TorchTracer::announce(uint32_t rows, const std::vector<moetrace_span>& spans) {
  moetrace_step_begin(producer(), rows, spans.data(), spans.size());
}

void TorchTracer::abort_pass() {
  moetrace_step_abort(producer());
}

}  // namespace moetrace::engine
