// Limits the cost of subscribers: each may read three topics, and send little.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>

namespace moetrace {

class SubscriberLimits {
 public:
  using Say = std::function<void(const std::string&)>;

  // Topics of one connection at a time; a reader needs three.
  static constexpr std::size_t kMostTopics = 64;
  // Messages from one connection: first this many at once, then this many a second. A program that
  // asks for `meta` again once a second stays far below.
  static constexpr double kMostAtOnce = 500;
  static constexpr double kMostPerSecond = 20;
  // Each takes about 50 kB and a descriptor.
  static constexpr std::size_t kMostConnections = 256;
  // Disconnect a subscriber with this many unread bytes in this many checks in a row: more than a
  // greeting and subscriptions need. A message without an end never reaches us; it grows in libzmq.
  static constexpr int kMostUnread = 4096;
  static constexpr int kMostUnreadLooks = 3;
  static constexpr std::chrono::milliseconds kLookEvery{20};
  // The interval while a subscriber counts towards kMostUnreadLooks.
  static constexpr std::chrono::milliseconds kLookAgain{10};

  // `say` prints one line.
  explicit SubscriberLimits(Say say);

  // Takes an accepted connection; shuts it down beyond kMostConnections.
  void accepted(int fd);

  // Takes a message from `fd` (-1: libzmq does not name the connection of a peer with ZMTP 2 or
  // older). False: the peer sends too much; a known connection is shut down.
  bool allow(int fd, std::string_view message);

  // All connections are gone.
  void clear() { connections_.clear(); }

  // Checks every connection; call it again after the time that it returns. `crowded`: slow readers
  // hold almost all the memory that they may; shuts down the one that has not read for the longest.
  std::chrono::milliseconds look(bool crowded);
  // Whether a connection is known.
  bool any() const { return !connections_.empty(); }

 private:
  using Clock = std::chrono::steady_clock;
  struct Connection {
    // Identifies the socket; a descriptor's number is reused.
    std::uint64_t cookie = 0;
    std::set<std::string, std::less<>> topics;
    double left = kMostAtOnce;
    Clock::time_point filled;
    // Checks in a row that found too many unread bytes.
    int unread_looks = 0;
    int unsent_bytes = 0;
    // When it last read, or had nothing to read.
    Clock::time_point read_at;
    bool shut = false;
  };

  Connection& connection_of(int fd, std::uint64_t cookie);
  bool within_limits(Connection& connection, std::string_view message);
  void watch_input(int fd, Connection& connection);
  void watch_output(int fd, Connection& connection, Clock::time_point now);
  void forget_closed();
  void shut(int fd, Connection& connection, const char* why);
  void say_shut(int fd, const char* why);

  Say say_;
  // By descriptor; -1: all peers that libzmq does not name.
  std::unordered_map<int, Connection> connections_;
  Clock::time_point said_;
  std::uint64_t shut_since_ = 0;
  bool trim_ = false;
};

}  // namespace moetrace
