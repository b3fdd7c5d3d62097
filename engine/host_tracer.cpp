#include "engine/host_tracer.hpp"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/version.h>

#include "producer/torch/torch_op.hpp"

namespace moetrace::engine {

namespace {

using Record = void(at::Tensor&, const at::Tensor&, int64_t, int64_t);

const c10::TypedOperatorHandle<Record>& record_op() {
  static const auto handle = [] {
    torch_record_schema();  // the operator's library is linked for its registration
    return c10::Dispatcher::singleton()
        .findSchemaOrThrow(MOETRACE_TORCH_RECORD, "")
        .typed<Record>();
  }();
  return handle;
}

}  // namespace

Result<std::unique_ptr<Tracer>> HostTracer::open(const ModelConfig& config, int64_t seed) {
  auto producer = open_producer(config, seed, {"cpu", TORCH_VERSION, -1});
  if (!producer) return producer.error();
  record_op();  // looked up before the first pass, not in it
  return std::unique_ptr<Tracer>(new HostTracer(*producer));
}

void HostTracer::routed(int64_t layer, at::Tensor& weights, const at::Tensor& ids) {
  record_op().call(weights, ids, layer, reinterpret_cast<int64_t>(producer()));
}

void HostTracer::begin_step(uint32_t rows, const std::vector<moetrace_span>& spans) {
  moetrace_step_begin(producer(), rows, spans.data(), spans.size());
}

void HostTracer::abort_pass() {
  moetrace_step_abort(producer());
}

}  // namespace moetrace::engine
