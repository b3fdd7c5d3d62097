// The engine's side of the hook: requests, and the announcement of each pass. The records of a
// layer's routing take a path of their own on each device: torch_tracer.hpp, cuda/cuda_tracer.hpp.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/config.hpp"
#include "engine/errors.hpp"
#include "engine/router_hook.hpp"
#include "producer/producer.h"

namespace moetrace::engine {

// Call from one thread at a time. The destructor ends the trace, so the model must outlive it.
class Tracer : public RouterHook {
 public:
  // Whether the user asked for a trace (MOETRACE=1).
  static bool enabled();

  Tracer(const Tracer&) = delete;
  Tracer& operator=(const Tracer&) = delete;
  ~Tracer() override;

  // Returns the request's number, for spans and for end_request().
  uint64_t begin_request(const std::string& id, int64_t prompt_tokens);
  void end_request(uint64_t request, int64_t generated_tokens, const char* status);

  // Call before each pass. The spans cover its `rows` rows in order, without gaps.
  virtual void announce(uint32_t rows, const std::vector<moetrace_span>& spans) = 0;
  // Waits for the work that a GPU's tracer enqueues after each pass. Before that, totals() may lack
  // the last pass.
  virtual void settle() {}
  // Call when the announced pass has failed.
  virtual void abort_pass() = 0;

  moetrace_totals totals() const;
  // Why tracing turned itself off, in one line; empty while it runs.
  std::string failure() const;

 protected:
  explicit Tracer(moetrace_producer* producer) : producer_(producer) {}
  moetrace_producer* producer() const { return producer_; }

 private:
  moetrace_producer* producer_;
};

// Where the routing comes from.
struct TraceSource {
  const char* device;         // "cpu" or "cuda"
  const char* torch_version;  // nullptr if the engine runs without libtorch
  int32_t cuda_device;        // the GPU whose kernels write the ring; -1 if this thread writes it
};
// Opens the ring for a model. An error says in one line why that failed.
Result<moetrace_producer*> open_producer(const ModelConfig& config, int64_t seed,
                                         const TraceSource& source);

}  // namespace moetrace::engine
