// The model on a GPU: our own kernels and cuBLAS, no libtorch. Decode passes are graphs, captured
// at the first pass of their size; everything else is enqueued as it comes.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>

#include "engine/cuda/number_type.hpp"
#include "engine/model.hpp"

namespace moetrace::engine::gpu {

class CudaModel final : public Model {
 public:
  // On the current device. `type`: what is calculated in; none: bfloat16 if the model is, else
  // float32. kUnsupported: no GPU, or a model that these kernels don't do.
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

  // Where all its passes are enqueued.
  CUstream_st* stream() const;

 private:
  struct Parts;
  explicit CudaModel(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

// Rows that a decode pass of `rows` sequences is padded to, so that few graphs serve all sizes.
int64_t padded_rows(int64_t rows);

}  // namespace moetrace::engine::gpu
