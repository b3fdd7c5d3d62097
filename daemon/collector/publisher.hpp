// Publishes what was written, over ZeroMQ. A slow subscriber loses messages and never slows us; the
// numbers in each header tell it exactly what it has missed.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "daemon/collector/line_batch.hpp"
#include "daemon/collector/message_queue.hpp"
#include "shm/errors.hpp"

namespace moetrace {

class Broadcaster;

// A trace that is being published.
struct Channel {
  std::string trace_id;
  std::uint64_t generation = 0;

  std::shared_ptr<PublishedTrace> published;  // made with the first message
  std::array<std::uint64_t, kTopics>
      unannounced{};  // missed messages that no later one tells of yet
};

class Publisher {
 public:
  using Say = std::function<void(const std::string&)>;

  // Binds one XPUB socket to the endpoints of a session's collector, and lists them. {"none"}:
  // nothing is published. Empty: the default endpoint; where it can't be made, `say` gets a line,
  // and nothing is published. `say` prints one line, also from another thread.
  static Result<Publisher> bind(const std::string& session,
                                const std::vector<std::string>& endpoints, const Say& say);
  Publisher(Publisher&&) noexcept;
  ~Publisher();

  // The endpoints as they are bound (a port of * is filled in).
  const std::vector<std::string>& endpoints() const { return endpoints_; }

  // From now on late subscribers get `meta`, the trace's first line.
  void begin(Channel& channel, const std::string& meta, const Totals& totals);
  void publish(Channel& channel, const LineBatch& batch);
  void publish_stats(Channel& channel, const std::string& line, const Totals& totals);

 private:
  Publisher();
  void hand_over(Channel& channel, Message message);

  std::unique_ptr<Broadcaster> broadcaster_;
  std::vector<std::string> endpoints_;
};

}  // namespace moetrace
