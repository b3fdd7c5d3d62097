// Checks each event against the events before it. Every producer keeps these rules. A segment that
// breaks them would make a trace that `moetrace verify` refuses.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "daemon/collector/event_reader.hpp"
#include "shm/abi.h"

namespace moetrace {

class EventOrder {
 public:
  explicit EventOrder(const moetrace_ring_header& header)
      : num_layers_(header.num_layers), moe_layers_(header.moe_layers) {}

  // Takes the next event. Returns why it can't follow the events before it, or "".
  std::string take(const Event& event);

  // Takes a number that an earlier collector has seen: later events must have higher ones.
  void take_request(std::uint64_t request);
  void take_step(std::uint64_t step, std::int64_t time_ns);

 private:
  std::string take(const StepEvent& step);
  std::string take(const RequestEvent& request);
  std::string take(const RequestEndEvent&) { return {}; }
  std::string take(const ControlEvent& control);
  std::string take(const UnknownEvent&) { return {}; }

  std::uint32_t num_layers_;
  moetrace_layer_mask moe_layers_;
  // The lowest numbers that the next step and the next request may have.
  std::uint64_t next_step_ = 0;
  std::uint64_t next_request_ = 0;
  std::int64_t last_time_ns_ = 0;
  // Announced so far.
  std::uint64_t records_ = 0;
};

}  // namespace moetrace
