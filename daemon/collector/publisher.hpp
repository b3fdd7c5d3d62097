// Publishes written lines over ZeroMQ. A slow subscriber loses messages and never slows the
// collector; the numbers in each header tell it exactly what it missed.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "daemon/collector/line_batch.hpp"
#include "daemon/collector/live_rows.hpp"
#include "daemon/collector/message_queue.hpp"
#include "shm/errors.hpp"

namespace moetrace {

class Broadcaster;

// A published trace.
struct Channel {
  std::string trace_id;
  std::uint64_t generation = 0;

  // Made with the first message.
  std::shared_ptr<PublishedTrace> published;
  // Missed messages that no later message has counted yet.
  std::array<std::uint64_t, kTopics> unannounced{};
};

class Publisher {
 public:
  using Say = std::function<void(const std::string&)>;

  // Binds one XPUB socket to the endpoints of a session's collector, and lists them in a file.
  // {"none"}: publishes nothing. Empty: the default endpoint; if that can't be made, `say` gets a
  // line, and nothing is published. `say` prints one line; another thread may call it.
  static Result<Publisher> bind(const std::string& session,
                                const std::vector<std::string>& endpoints, const Say& say);
  Publisher(Publisher&&) noexcept;
  ~Publisher();

  // The bound endpoints, with the port that replaced a *.
  const std::vector<std::string>& endpoints() const { return endpoints_; }

  // From now on new subscribers get `meta`, the trace's first line.
  void begin(Channel& channel, const std::string& meta, const RunningTotals& totals);
  // Whether anyone subscribes to `route`, and to `rows`.
  bool wants_routes() const;
  bool wants_rows() const;
  void publish(Channel& channel, const LineBatch& batch);
  void publish_rows(Channel& channel, LiveMessage message);
  void publish_stats(Channel& channel, const std::string& line, const RunningTotals& totals);

 private:
  Publisher();
  void hand_over(Channel& channel, Message message);

  std::unique_ptr<Broadcaster> broadcaster_;
  std::vector<std::string> endpoints_;
};

}  // namespace moetrace
