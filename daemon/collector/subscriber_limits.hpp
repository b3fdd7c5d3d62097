// What subscribers may cost: each is a reader of three topics, and not a source of data.
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

  // Topics that a connection is subscribed to at a time; a reader needs three.
  static constexpr std::size_t kMostTopics = 64;
  // Messages from a connection: this many at once, then this many a second. A program that asks for
  // `meta` again once a second stays far below.
  static constexpr double kMostAtOnce = 500;
  static constexpr double kMostPerSecond = 20;
  // Each takes some 50 kB and a descriptor.
  static constexpr std::size_t kMostConnections = 256;
  // Unread bytes of a subscriber that are more than its greeting and subscriptions, and how many
  // looks may find so many. A message without an end is never handed to us, and grows in libzmq.
  static constexpr int kMostUnread = 4096;
  static constexpr int kMostUnreadLooks = 3;
  static constexpr std::chrono::milliseconds kLookEvery{20};
  static constexpr std::chrono::milliseconds kLookAgain{10};  // after one that found so many

  // `say` prints one line.
  explicit SubscriberLimits(Say say);

  // A connection has been accepted. One too many is shut down.
  void accepted(int fd);

  // `message` has come through `fd` (-1: from a peer that speaks ZMTP 2 or older, which libzmq does
  // not tell). False: it is one too many; the connection is shut down, if it is known.
  bool allow(int fd, std::string_view message);

  // All connections are gone.
  void clear() { connections_.clear(); }

  // To be called again after what it returns. `crowded`: slow readers hold almost as much memory as
  // they may; the one that has not read for the longest time is shut down.
  std::chrono::milliseconds look(bool crowded);
  // Whether there is a connection to look at.
  bool any() const { return !connections_.empty(); }

 private:
  using Clock = std::chrono::steady_clock;
  struct Connection {
    std::uint64_t cookie = 0;  // the socket's own: the number of a descriptor is used again
    std::set<std::string, std::less<>> topics;
    double left = kMostAtOnce;
    Clock::time_point filled;
    int unread_looks = 0;  // in a row that found too much
    int unsent_bytes = 0;
    Clock::time_point read_at;  // when it has last read something, or had nothing to read
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
  std::unordered_map<int, Connection> connections_;  // by descriptor, -1: all unknown ones
  Clock::time_point said_;
  std::uint64_t shut_since_ = 0;
  bool trim_ = false;
};

}  // namespace moetrace
