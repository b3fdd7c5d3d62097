// Joins route records, which know (step, row), with the announced spans, which know (request,
// position).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "daemon/collector/event_reader.hpp"
#include "daemon/collector/lines.hpp"

namespace moetrace {

class SpanJoin {
 public:
  // `most_bytes`: what the live requests may take here. An engine that never ends its requests
  // would else take all memory.
  explicit SpanJoin(std::size_t most_bytes) : most_bytes_(most_bytes) {}

  // `event`: its position; 0 for one that is older than the events that are read. The oldest
  // requests are forgotten where there is no room for another one; their rows have null for a
  // request from then on.
  void add_request(const RequestEvent& request, std::uint64_t event);
  // Its rows have all been read. It stays in live_at() until forget_ended().
  void end_request(std::uint64_t request);
  void forget_ended();
  // The requests that began before `event` and are known, by number.
  std::vector<RequestEvent> live_at(std::uint64_t event) const;
  // Nothing if the request isn't known, or has ended. Good until the next call that changes
  // something.
  const RequestEvent* request(std::uint64_t number) const;
  // How many live requests have been forgotten.
  std::uint64_t forgotten() const { return forgotten_; }

  // The step whose routes come now.
  void enter(StepEvent step);
  const std::optional<StepEvent>& step() const { return step_; }

  struct Place {
    const RouteOrigin* origin;
    std::optional<std::uint64_t> token_idx;
  };
  // Whose token row `row` of the entered step is. Good until the next call that changes something.
  Place place(std::uint32_t row);

 private:
  struct Request {
    RequestEvent began;
    std::uint64_t event;
    bool ended;
    RouteOrigin origin;
  };
  const RouteOrigin* origin_of(std::uint64_t request) const;
  void erase(std::unordered_map<std::uint64_t, Request>::iterator request);
  void forget_oldest();

  std::size_t most_bytes_;
  std::size_t bytes_ = 0;  // that requests_ takes
  std::uint64_t forgotten_ = 0;
  std::unordered_map<std::uint64_t, Request> requests_;
  std::vector<std::uint64_t> ended_;
  std::optional<StepEvent> step_;
  std::vector<const RouteOrigin*> origins_;  // per span, once it was needed
  std::size_t last_span_ = 0;                // rows come mostly in order
  RouteOrigin unknown_ = route_origin("null", std::nullopt);
};

}  // namespace moetrace
