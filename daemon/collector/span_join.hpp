// Joins route records with announced spans: a record has (step, row), a span has (request,
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
  // `most_bytes`: the memory limit for live requests, for an engine that never ends its requests.
  explicit SpanJoin(std::size_t most_bytes) : most_bytes_(most_bytes) {}

  // `event`: the position of its event; 0 if that event has left the ring. Beyond the memory limit
  // the oldest requests are forgotten: from then on their rows have null for a request.
  void add_request(const RequestEvent& request, std::uint64_t event);
  // All its rows were read. It stays in live_at() until forget_ended().
  void end_request(std::uint64_t request);
  void forget_ended();
  // The known requests that began before `event`, by number.
  std::vector<RequestEvent> live_at(std::uint64_t event) const;
  // Nothing if the request is unknown or has ended. Valid until the next non-const call.
  const RequestEvent* request(std::uint64_t number) const;
  // How many live requests were forgotten.
  std::uint64_t forgotten() const { return forgotten_; }

  // Sets the step of the routes that follow.
  void enter(StepEvent step);
  const std::optional<StepEvent>& step() const { return step_; }

  struct Place {
    const RouteOrigin* origin;
    std::optional<std::uint64_t> token_idx;
    // Rows of the step from this one on that belong to the same span; 1 outside of a span.
    std::uint32_t rows;
  };
  // The token of row `row` in the entered step. Valid until the next non-const call.
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
  // Memory of requests_.
  std::size_t bytes_ = 0;
  std::uint64_t forgotten_ = 0;
  std::unordered_map<std::uint64_t, Request> requests_;
  std::vector<std::uint64_t> ended_;
  std::optional<StepEvent> step_;
  // Of each span, once it was needed.
  std::vector<const RouteOrigin*> origins_;
  // place() tries it first: most rows come in order.
  std::size_t last_span_ = 0;
  RouteOrigin unknown_ = route_origin("null", std::nullopt);
};

}  // namespace moetrace
