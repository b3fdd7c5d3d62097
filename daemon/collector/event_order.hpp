// What an event may say after those before it. A segment is not trusted: one that breaks these
// rules, which every producer keeps, would make a trace that `moetrace verify` refuses.
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

  // Takes the next event. Empty if it can follow those before it, else why it can't.
  std::string take(const Event& event);

  // What an earlier collector has seen: later events have higher numbers.
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
  std::uint64_t next_step_ = 0;  // steps and requests below were there already
  std::uint64_t next_request_ = 0;
  std::int64_t last_time_ns_ = 0;
  std::uint64_t records_ = 0;  // announced
};

}  // namespace moetrace
