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

class StepJoin {
 public:
  // `event`: its position; 0 for one that is older than the events that are read.
  void add_request(const RequestEvent& request, std::uint64_t event);
  // Its rows have all been read. It stays known until forget_ended().
  void end_request(std::uint64_t request);
  void forget_ended();
  // The requests that began before `event` and are known, by number.
  std::vector<RequestEvent> live_at(std::uint64_t event) const;
  // The request's id as a JSON string, "null" if it isn't known.
  std::string json_id(std::uint64_t request) const;

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
    std::string json_id;
    RouteOrigin origin;
  };
  const RouteOrigin* origin_of(std::uint64_t request) const;

  std::unordered_map<std::uint64_t, Request> requests_;
  std::vector<std::uint64_t> ended_;
  std::optional<StepEvent> step_;
  std::vector<const RouteOrigin*> origins_;  // per span, once it was needed
  std::size_t last_span_ = 0;                // rows come mostly in order
  RouteOrigin unknown_ = route_origin("null", std::nullopt);
};

}  // namespace moetrace
