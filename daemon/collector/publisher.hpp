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
  std::string meta;                 // the trace's first line
  std::uint64_t meta_sent_for = 0;  // so many subscriptions to `meta` have got that line
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

  // Sees who has come; to be called again and again, also while there is nothing to publish.
  void take_subscriptions();
  // The trace's first line, if somebody has come since it was sent.
  void publish_meta_if_due(Channel& channel, const Totals& totals);
  void publish(Channel& channel, const Batch& batch);
  void publish_stats(Channel& channel, const std::string& line, const Totals& totals);

 private:
  void send(std::string_view topic, std::uint64_t& number, Channel& channel, Run run,
            std::string payload);
  void lead_with_meta_if_due(Channel& channel, Run& run, std::string& payload);

  zmq::context_t context_;
  zmq::socket_t socket_;
  std::vector<std::string> endpoints_;
  std::uint64_t meta_subscriptions_ = 0;  // seen so far
};

}  // namespace moetrace
