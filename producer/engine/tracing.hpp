// The engine's side of the hook: requests, announcements, and the routing of each layer through the
// operator moetrace::record.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "producer/engine/config.hpp"
#include "producer/engine/model.hpp"
#include "producer/engine/result.hpp"

struct moetrace_producer;

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

// One thread at a time. Ends the trace when it goes.
class Tracer final : public RouterHook {
 public:
  // Whether the user asked for a trace (MOETRACE=1).
  static bool enabled();
  // kFailed says in one line why there is no ring; an engine then runs on untraced.
  static Result<std::unique_ptr<Tracer>> open(const ModelConfig& config, int64_t seed,
                                              Device device);

  Tracer(const Tracer&) = delete;
  Tracer& operator=(const Tracer&) = delete;
  ~Tracer() override;

  // Its number, for spans and the end.
  uint64_t begin_request(const std::string& id, int64_t prompt_tokens);
  void end_request(uint64_t request, int64_t generated_tokens, const char* status);

  // Before the pass runs: its rows in order, without gaps.
  void announce(const std::vector<TracedSpan>& spans);
  // The announced pass failed.
  void abort_pass();

  TraceTotals totals() const;

  void routed(int64_t layer, at::Tensor& weights, const at::Tensor& ids) override;

 private:
  explicit Tracer(moetrace_producer* producer) : producer_(producer) {}
  moetrace_producer* producer_;
};

}  // namespace moetrace::engine
