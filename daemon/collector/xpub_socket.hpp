// The ZeroMQ socket that subscribers connect to, with limits on their cost.
//
// libzmq keeps the messages of each subscriber in a pipe, then in an unbounded queue until we take
// them, and all topics in a trie. So a pipe holds one message, messages are short, and
// SubscriberLimits disconnects subscribers that send too much.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>
#include <zmq.hpp>

#include "daemon/collector/subscriber_limits.hpp"
#include "daemon/collector/topic_subscribers.hpp"
#include "shm/errors.hpp"

namespace moetrace {

class XpubSocket {
 public:
  using Say = std::function<void(const std::string&)>;

  // Binds to every endpoint. `say` prints one line.
  static Result<std::unique_ptr<XpubSocket>> bind(const std::vector<std::string>& endpoints,
                                                  Say say);
  ~XpubSocket();
  XpubSocket(const XpubSocket&) = delete;
  XpubSocket& operator=(const XpubSocket&) = delete;

  // The bound endpoints, with the port that replaced a *.
  std::vector<std::string> endpoints() const;
  // Binds an endpoint again if its socket file was deleted; gives the endpoint up if another file
  // has its name. Prints a line for each. True if endpoints() has changed.
  bool mend();

  // Waits until a subscriber sends a message, `descriptor` is readable, or the time is over.
  void wait(int descriptor, std::chrono::milliseconds time);

  // Takes a bounded number of messages from subscribers. False: more may wait.
  bool take_subscriptions();
  // How many subscriptions that match `meta` have come.
  std::uint64_t meta_subscriptions() const { return meta_subscriptions_; }

  // Whether anyone subscribes to `route`, and to `rows`. Any thread may call them.
  bool wants_routes() const { return route_subscribers_.any(); }
  bool wants_rows() const { return rows_subscribers_.any(); }

  // Sends the three frames of a message: the topic, then the rest. Never waits: a subscriber with a
  // full queue misses the whole message; all subscribers miss it while slow ones hold kMostHeld. In
  // that case, or after an error, send_topic() returns false; then do not call send_rest().
  bool send_topic(std::string_view topic);
  void send_rest(std::string header, std::string content);

 private:
  struct Bound {
    std::string endpoint;
    // Of a socket in the file system; and its inode when we made it.
    std::optional<std::string> file;
    std::uint64_t inode = 0;
  };

  explicit XpubSocket(Say say) : say_(std::move(say)), limits_(say_) {}

  void open();
  void set_linger(std::chrono::milliseconds time);
  void close(std::chrono::milliseconds linger);
  std::string bind_to(const std::string& endpoint);
  void unlink_files();
  void take(zmq::message_t& message);
  void take_accepted();
  void drop_all();

  Say say_;
  std::unique_ptr<zmq::context_t> context_;
  zmq::socket_t socket_;
  // Reports accepted connections.
  zmq::socket_t events_;
  std::vector<Bound> bound_;
  std::uint64_t meta_subscriptions_ = 0;
  TopicSubscribers route_subscribers_{"route"};
  TopicSubscribers rows_subscribers_{"rows"};
  SubscriberLimits limits_;
  std::chrono::steady_clock::time_point look_at_;
  bool unknown_peers_flood_ = false;
  // Bytes of headers and contents that libzmq holds; its threads subtract.
  std::shared_ptr<std::atomic<std::size_t>> held_ = std::make_shared<std::atomic<std::size_t>>(0);
};

}  // namespace moetrace
