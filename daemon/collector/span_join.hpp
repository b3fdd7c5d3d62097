// Joins route records with announced spans: a record has (step, row), a span has (request,
// position).
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <span>
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
  // All its rows were read. `event`: the position of its end.
  void end_request(std::uint64_t request, std::uint64_t event);
  // Frees the requests that ended, were replaced or were forgotten before `event`. Until then,
  // those that ended stay in live_at(), and all origins stay valid.
  void release(std::uint64_t event);
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
  // The token of row `row` in the entered step. Its origin is valid until release().
  Place place(std::uint32_t row);
  // The same of all rows of the entered step: `requests` and `token_idx` have one entry a row, and
  // keep those of rows that belong to no known request, or have no position.
  void places(std::span<std::uint64_t> requests, std::span<std::uint64_t> token_idx);

 private:
  struct Request {
    RequestEvent began;
    std::uint64_t event;
    // The event of its end.
    std::optional<std::uint64_t> ended;
    RouteOrigin origin;
  };
  using Requests = std::unordered_map<std::uint64_t, Request>;
  const RouteOrigin* origin_of(std::uint64_t request) const;
  void retire(Requests::iterator request, std::uint64_t event);
  void forget_oldest(std::uint64_t event);

  std::size_t most_bytes_;
  // Memory of requests_.
  std::size_t bytes_ = 0;
  std::uint64_t forgotten_ = 0;
  Requests requests_;
  // Both by ascending event: the ends, and requests that are no longer in requests_.
  struct Ended {
    std::uint64_t event;
    std::uint64_t request;
  };
  struct Retired {
    std::uint64_t event;
    Requests::node_type request;
  };
  std::deque<Ended> ended_;
  std::deque<Retired> retired_;
  std::optional<StepEvent> step_;
  // Of each span, once it was needed.
  std::vector<const RouteOrigin*> origins_;
  // place() tries it first: most rows come in order.
  std::size_t last_span_ = 0;
  RouteOrigin unknown_ = route_origin("null", std::nullopt);
};

}  // namespace moetrace
