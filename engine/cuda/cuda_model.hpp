// The model on a GPU: our own kernels and cuBLAS, without libtorch. Decode passes are graphs,
// captured at the first pass of their padded size. Prefill passes are eager.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>

#include "engine/cuda/number_type.hpp"
#include "engine/model.hpp"

namespace moetrace::engine::gpu {

class CudaModel final : public Model {
 public:
  // Loads a model onto the current device. It computes in `type`; by default in bfloat16 if the
  // model is bfloat16, else in float32. kUnsupported: the machine lacks a GPU, or the kernels do
  // not support the model.
  static Result<std::unique_ptr<CudaModel>> load(const std::filesystem::path& folder,
                                                 std::optional<NumberType> type = {});
  // With random weights (device_weights.hpp).
  static Result<std::unique_ptr<CudaModel>> random(const ModelConfig& config, NumberType type,
                                                   uint64_t seed);
  ~CudaModel() override;

  const ModelConfig& config() const override;
  Result<std::shared_ptr<KvCache>> new_cache(int64_t capacity) const override;
  Result<std::vector<int64_t>> next_tokens(const Pass& pass, RouterHook* hook) const override;
  Result<std::vector<float>> logits(const Pass& pass, RouterHook* hook) const override;
  Result<std::unique_ptr<Tracer>> open_tracer(int64_t seed) const override;

  // The stream of all passes.
  CUstream_st* stream() const;

 private:
  struct Parts;
  explicit CudaModel(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

// Rows of a decode pass of `rows` sequences after padding, so that few graphs serve all sizes.
int64_t padded_rows(int64_t rows);

}  // namespace moetrace::engine::gpu
