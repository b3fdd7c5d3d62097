#include "engine/cuda/cuda_tracer.hpp"

#include <cuda_runtime_api.h>

#include <cstdint>

namespace moetrace::engine::gpu {

Result<std::unique_ptr<Tracer>> CudaTracer::open(const ModelConfig& config, int64_t seed,
                                                 int device, CUstream_st* stream, Where where) {
  auto producer = open_producer(config, seed, {"cuda", nullptr, device});
  if (!producer) return producer.error();
  return std::unique_ptr<Tracer>(new CudaTracer(*producer, stream, where));
}

void CudaTracer::routed(int64_t layer, const DeviceRoutes& routes, CUstream_st* stream) {
  if (rows_ > 0) send_announcement();
  const auto record =
      where_ == Where::kInLine ? moetrace_record_cuda_in_line : moetrace_record_cuda_deferred;
  record(producer(), stream, static_cast<uint32_t>(layer), routes.ids, MOETRACE_INT32,
         routes.weights, MOETRACE_FLOAT32, static_cast<uint32_t>(routes.rows));
}

void CudaTracer::pass_enqueued(CUstream_st* stream) {
  moetrace_join(producer(), stream);
}

void CudaTracer::settle() {
  cudaStreamSynchronize(stream_);  // ignores an error, as the next pass reports it
}

void CudaTracer::abort_pass() {
  rows_ = 0;
  moetrace_step_abort_cuda(producer(), stream_);
}

void CudaTracer::announce(uint32_t rows, const std::vector<moetrace_span>& spans) {
  rows_ = rows;
  spans_ = spans;
  if (where_ != Where::kAfterPass) send_announcement();
}

void CudaTracer::send_announcement() {
  moetrace_step_begin_cuda(producer(), stream_, rows_, spans_.data(), spans_.size());
  rows_ = 0;
}

}  // namespace moetrace::engine::gpu
