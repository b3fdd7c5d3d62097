// Publishes what was written, over ZeroMQ. A slow subscriber loses messages and never slows us; the
// numbers in each header tell it exactly what it has missed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>
#include <zmq.hpp>

#include "daemon/collector/batch.hpp"
#include "shm/result.hpp"

namespace moetrace {

// A trace as its subscribers know it: message numbers count from 0 per topic and collector
// generation.
struct Channel {
  std::string trace_id;
  std::uint64_t generation = 0;
  std::uint64_t route_messages = 0;
  std::uint64_t meta_messages = 0;
  std::uint64_t stats_messages = 0;
};

class Publisher {
 public:
  // Binds one XPUB socket to every endpoint; none: nothing is published.
  static Result<Publisher> bind(const std::vector<std::string>& endpoints);

  // The endpoints as they are bound (a port of * is filled in).
  const std::vector<std::string>& endpoints() const { return endpoints_; }
  // Becomes readable when subscriptions come; -1 if nothing is published.
  int descriptor() const;

  // Takes what subscribers have asked for. True if there is a new subscription.
  bool take_subscriptions();

  void publish(Channel& channel, const Batch& batch);
  // The trace's first line once more, for somebody who came late.
  void publish_meta(Channel& channel, const std::string& line, const Totals& totals);
  void publish_stats(Channel& channel, const std::string& line, const Totals& totals);

 private:
  void send(const char* topic, std::uint64_t& number, const Channel& channel, const Run& run,
            std::string_view payload);

  zmq::context_t context_;
  zmq::socket_t socket_;
  std::vector<std::string> endpoints_;
};

}  // namespace moetrace
