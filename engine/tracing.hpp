// The engine's side of the hook: requests and announcements. What each layer's router said goes its
// own way on each device: host_tracer.hpp, cuda/cuda_tracer.hpp.
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

// Rows of the next pass that belong to one request.
struct TracedSpan {
  uint64_t request;
  int64_t first_position;
  int64_t rows;
};

struct TraceTotals {
  uint64_t recorded;  // records in the ring so far
  uint64_t dropped;   // records that found no room
};

// One thread at a time. Ends the trace when it goes; the model must still be there then.
class Tracer : public RouterHook {
 public:
  // Whether the user asked for a trace (MOETRACE=1).
  static bool enabled();

  Tracer(const Tracer&) = delete;
  Tracer& operator=(const Tracer&) = delete;
  ~Tracer() override;

  // Its number, for spans and the end.
  uint64_t begin_request(const std::string& id, int64_t prompt_tokens);
  void end_request(uint64_t request, int64_t generated_tokens, const char* status);

  // Before the pass runs: its rows in order, without gaps.
  void announce(const std::vector<TracedSpan>& spans);
  // Waits for what a tracer of a GPU leaves behind each pass: until then totals() may lack the
  // last.
  virtual void settle() {}
  // The announced pass failed.
  virtual void abort_pass() = 0;

  TraceTotals totals() const;
  // One line that says why tracing has turned itself off; empty: it has not.
  std::string failure() const;

 protected:
  explicit Tracer(moetrace_producer* producer) : producer_(producer) {}
  virtual void begin_step(uint32_t rows, const std::vector<moetrace_span>& spans) = 0;
  moetrace_producer* producer() const { return producer_; }

 private:
  moetrace_producer* producer_;
};

// Where the routing will come from.
struct TraceSource {
  const char* device;         // "cpu", "cuda"
  const char* torch_version;  // nullptr: no libtorch takes part
  int32_t cuda_device;        // its kernels write the ring; -1: this thread does
};
// Opens the ring for a model. kFailed says in one line why there is none.
Result<moetrace_producer*> open_producer(const ModelConfig& config, int64_t seed,
                                         const TraceSource& source);

}  // namespace moetrace::engine
