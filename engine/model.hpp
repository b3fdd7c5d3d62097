// Qwen2MoeForCausalLM's forward pass over packed rows: without padding, and with prefill and decode
// rows in any mixture. This interface hides the two implementations, libtorch on the CPU and our
// own kernels on a GPU, so that its users compile without libtorch's headers.
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

// Keys and values of one sequence, all layers, for a fixed number of positions. Destroy it before
// the model that made it.
class KvCache {
 public:
  virtual ~KvCache() = default;
};

// Rows of a pass that are consecutive tokens of one sequence.
struct PassSpan {
  KvCache* cache;          // holds positions [0, first_position); the pass adds those of its rows
  int64_t first_position;  // of the first row
  int64_t rows;            // at least 1
};

struct Pass {
  std::vector<int64_t> tokens;  // one a row, each in [0, vocab_size)
  std::vector<PassSpan> spans;  // cover all rows in order; each names another sequence
};

enum class Device { kCpu, kCuda };

// Call from one thread at a time.
class Model {
 public:
  // Reads a model folder. The CPU computes in float32. A GPU computes in bfloat16 if the weights
  // are bfloat16, else in float32. kUnsupported if this build or this machine lacks `device`.
  static Result<std::unique_ptr<Model>> load(const std::filesystem::path& folder, Device device);

  virtual ~Model() = default;

  virtual const ModelConfig& config() const = 0;

  // A cache for `capacity` positions of one sequence; kNoMemory if the memory does not suffice.
  virtual Result<std::shared_ptr<KvCache>> new_cache(int64_t capacity) const = 0;

  // Runs the pass. Returns the most probable next token of each span. `hook` may be nullptr.
  virtual Result<std::vector<int64_t>> next_tokens(const Pass& pass, RouterHook* hook) const = 0;
  // Runs the pass. Returns the logits [rows, vocab_size], row by row.
  virtual Result<std::vector<float>> logits(const Pass& pass, RouterHook* hook) const = 0;

  // Opens a trace of this model's passes. An error says in one line why that failed; an engine then
  // continues untraced.
  virtual Result<std::unique_ptr<Tracer>> open_tracer(int64_t seed) const = 0;
};

}  // namespace moetrace::engine
