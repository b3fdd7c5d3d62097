// Qwen2MoeForCausalLM's forward pass over packed rows: no padding, any mixture of prompts and
// single tokens. The two implementations, libtorch on the CPU and our own kernels on a GPU, stay
// behind this interface, so that what only uses the model compiles quickly.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <vector>

#include "engine/config.hpp"
#include "engine/errors.hpp"
#include "engine/router_hook.hpp"

namespace moetrace::engine {

class Tracer;

// Keys and values of one sequence, all layers; room is taken once. Belongs to the model that made
// it and must not outlive it.
class KvCache {
 public:
  virtual ~KvCache() = default;
};

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

enum class Device { kCpu, kCuda };

// One thread at a time.
class Model {
 public:
  // Reads a model folder. On the CPU the computation is float32, whatever the weights are; on a GPU
  // it is bfloat16 where the weights are, else float32. kUnsupported if this build or this machine
  // lacks `device`.
  static Result<std::unique_ptr<Model>> load(const std::filesystem::path& folder, Device device);

  virtual ~Model() = default;

  virtual const ModelConfig& config() const = 0;

  // Room for `capacity` positions of one sequence; kNoMemory if there is none.
  virtual Result<std::shared_ptr<KvCache>> new_cache(int64_t capacity) const = 0;

  // Runs the pass; the most probable next token of each span. `hook` may be nullptr.
  virtual Result<std::vector<int64_t>> next_tokens(const Pass& pass, RouterHook* hook) const = 0;
  // Runs the pass; logits [rows, vocab_size], row by row.
  virtual Result<std::vector<float>> logits(const Pass& pass, RouterHook* hook) const = 0;

  // A trace of this model's passes. kFailed says in one line why there is no ring; an engine then
  // runs on untraced.
  virtual Result<std::unique_ptr<Tracer>> open_tracer(int64_t seed) const = 0;
};

}  // namespace moetrace::engine
