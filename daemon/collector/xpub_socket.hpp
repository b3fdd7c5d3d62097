// The ZeroMQ socket that subscribers connect to, with limits on what they may cost us.
//
// libzmq holds what subscribers send in a pipe each, in a queue without a bound until we take it,
// and in a trie of all topics. So a pipe holds one message, messages are short, and
// SubscriberLimits shuts down who sends too much.
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

  // The endpoints as they are bound (a port of * is filled in).
  std::vector<std::string> endpoints() const;
  // Binds again where a socket file has been deleted, and gives up an endpoint whose name another
  // file has; says so in a line each. True if endpoints() has changed.
  bool mend();

  // Waits until a subscriber has sent something, `descriptor` is readable, or the time is over.
  void wait(int descriptor, std::chrono::milliseconds time);

  // Looks at what subscribers have sent, a bounded portion of it. False: there may be more.
  bool take_subscriptions();
  // So many subscriptions that match `meta` have been seen.
  std::uint64_t meta_subscriptions() const { return meta_subscriptions_; }

  // The three frames of a message. Nothing ever waits: a subscriber whose queue is full misses the
  // whole message, and so do all while slow ones hold as much memory as they may. In that case, or
  // if it fails, send_topic says false, and the other two are not to be called.
  bool send_topic(std::string_view topic);
  void send_rest(std::string_view header, std::string lines);

 private:
  struct Bound {
    std::string endpoint;
    std::optional<std::string> file;  // of a socket in the file system
    std::uint64_t inode = 0;          // that the file had when we made it
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
  zmq::socket_t events_;  // tells of accepted connections
  std::vector<Bound> bound_;
  std::uint64_t meta_subscriptions_ = 0;
  SubscriberLimits limits_;
  std::chrono::steady_clock::time_point look_at_;
  bool unknown_peers_flood_ = false;
  // Lines that libzmq holds; its threads take from it.
  std::shared_ptr<std::atomic<std::size_t>> held_ = std::make_shared<std::atomic<std::size_t>>(0);
};

}  // namespace moetrace
