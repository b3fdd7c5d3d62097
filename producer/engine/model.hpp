// Qwen2MoeForCausalLM's forward pass over packed rows: no padding, any mixture of prompts and
// single tokens. libtorch stays behind this header, so that what only uses the model compiles
// quickly.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <vector>

#include "producer/engine/config.hpp"
#include "producer/engine/result.hpp"

namespace at {
class Tensor;
}

namespace moetrace::engine {

class KvCache;

// Rows of a pass that are consecutive tokens of one sequence.
struct PassSpan {
  KvCache* cache;  // of that sequence: holds positions [0, first_position), gets those of this pass
  int64_t first_position;  // of its first row
  int64_t rows;            // at least 1
};

struct Pass {
  std::vector<int64_t> tokens;  // one a row, each in [0, vocab_size)
  std::vector<PassSpan> spans;  // in row order, covering all rows; no sequence twice
};

// Told of each MoE layer's routing, in ascending layer order, before the experts run.
class RouterHook {
 public:
  virtual ~RouterHook() = default;
  // weights: float32 [rows, top_k]; ids: int64 [rows, top_k]. Must change neither.
  virtual void routed(int64_t layer, at::Tensor& weights, const at::Tensor& ids) = 0;
};

enum class Device { kCpu, kCuda };

class Model {
 public:
  // Reads a model folder. Weights that are stored in 16 bits are widened to float32 once where the
  // memory is there, else each time they are used; the computation is float32 either way.
  // kUnsupported if `device` isn't in this libtorch.
  static Result<Model> load(const std::filesystem::path& folder, Device device);

  Model(Model&&) noexcept;
  Model& operator=(Model&&) noexcept;
  ~Model();

  const ModelConfig& config() const;

  // Room for `capacity` positions of one sequence; kNoMemory if there is none.
  Result<std::shared_ptr<KvCache>> new_cache(int64_t capacity) const;

  // Runs the pass; the most probable next token of each span. `hook` may be nullptr.
  Result<std::vector<int64_t>> next_tokens(const Pass& pass, RouterHook* hook) const;
  // Runs the pass; logits [rows, vocab_size], row by row.
  Result<std::vector<float>> logits(const Pass& pass, RouterHook* hook) const;

 private:
  struct Parts;
  explicit Model(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace moetrace::engine
