#include "engine/cuda/json_lines_hook.hpp"

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <stdexcept>

#include "engine/cuda/cuda_error.hpp"

namespace moetrace::engine {

JsonLinesHook::JsonLinesHook(const std::string& path, int64_t layer)
    : file_(std::fopen(path.c_str(), "w")), layer_(layer) {
  if (file_ == nullptr)
    throw std::runtime_error(path + ": " + std::strerror(errno) + "; free some space in /dev/shm");
}

JsonLinesHook::~JsonLinesHook() {
  std::fclose(file_);
}

void JsonLinesHook::routed(int64_t layer, const DeviceRoutes& routes, CUstream_st* stream) {
  if (layer_ >= 0 && layer != layer_) return;
  const size_t count = static_cast<size_t>(rows_ * routes.top_k);
  ids_.resize(count);
  weights_.resize(count);
  gpu::check(cudaMemcpyAsync(ids_.data(), routes.ids, count * sizeof(int32_t),
                             cudaMemcpyDeviceToHost, stream),
             "copying routing");
  gpu::check(cudaMemcpyAsync(weights_.data(), routes.weights, count * sizeof(float),
                             cudaMemcpyDeviceToHost, stream),
             "copying routing");
  gpu::check(cudaStreamSynchronize(stream), "copying routing");
  for (int64_t row = 0; row < rows_; ++row) {
    std::fprintf(
        file_,
        "{\"type\": \"route\", \"req_id\": \"r%lld\", \"token_idx\": %lld, \"layer\": %lld, "
        "\"topk_ids\": [",
        static_cast<long long>(row), static_cast<long long>(position_),
        static_cast<long long>(layer));
    for (int64_t k = 0; k < routes.top_k; ++k)
      std::fprintf(file_, k > 0 ? ", %d" : "%d", ids_[static_cast<size_t>(row * routes.top_k + k)]);
    std::fputs("], \"topk_weights\": [", file_);
    for (int64_t k = 0; k < routes.top_k; ++k) {
      std::fprintf(file_, k > 0 ? ", %.9g" : "%.9g",
                   static_cast<double>(weights_[static_cast<size_t>(row * routes.top_k + k)]));
    }
    std::fputs("]}\n", file_);
  }
  std::fflush(file_);  // as the patch does: the file has a layer's lines before the next layer runs
}

}  // namespace moetrace::engine
