#include "daemon/collector/subscriber_limits.hpp"

#include <malloc.h>
#include <netdb.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
// After sys/socket.h.
#include <linux/sockios.h>

#include <algorithm>
#include <optional>
#include <utility>

namespace moetrace {
namespace {

// At most one line in this time; the next line counts the others.
constexpr auto kSayEvery = std::chrono::minutes(1);
// A reader is stuck if it has read nothing for this long. If memory runs out, stuck readers go
// first.
constexpr auto kStuck = std::chrono::seconds(1);

constexpr const char* kTooMany = "sent more subscriptions than a reader of three topics needs";
constexpr const char* kEndless = "sends without an end";
constexpr const char* kCrowd = "is one more than the limit";
constexpr const char* kNotReading = "does not read, and memory for slow readers has run out";

// A number that no other socket of this machine ever had. Nothing: `fd` is closed.
std::optional<std::uint64_t> cookie_of(int fd) {
  std::uint64_t cookie = 0;
  socklen_t size = sizeof cookie;
  if (::getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &size) != 0) return std::nullopt;
  return cookie;
}

// A quarter of the descriptors; the rings and traces need the others.
std::size_t most_connections() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return SubscriberLimits::kMostConnections;
  return std::min<std::size_t>(SubscriberLimits::kMostConnections, limit.rlim_cur / 4);
}

// " (pid 5, uid 0)" on this machine, " (192.0.2.7)" elsewhere.
std::string peer_text(int fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  char host[NI_MAXHOST];
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return "";
  if (address.ss_family != AF_UNIX) {
    const bool known = ::getnameinfo(reinterpret_cast<sockaddr*>(&address), size, host, sizeof host,
                                     nullptr, 0, NI_NUMERICHOST) == 0;
    return known ? " (" + std::string(host) + ")" : "";
  }
  ucred peer{};
  size = sizeof peer;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return "";
  return " (pid " + std::to_string(peer.pid) + ", uid " + std::to_string(peer.uid) + ")";
}

}  // namespace

SubscriberLimits::SubscriberLimits(Say say) : say_(std::move(say)) {}

SubscriberLimits::Connection& SubscriberLimits::connection_of(int fd, std::uint64_t cookie) {
  Connection& connection = connections_[fd];
  if (connection.cookie != cookie) {
    connection = Connection{};
    connection.cookie = cookie;
    connection.read_at = connection.filled = Clock::now();
  }
  return connection;
}

void SubscriberLimits::accepted(int fd) {
  const auto cookie = cookie_of(fd);
  if (!cookie) return;
  Connection& connection = connection_of(fd, *cookie);
  if (connections_.size() <= most_connections()) return;
  forget_closed();
  if (connections_.size() > most_connections()) shut(fd, connection, kCrowd);
}

bool SubscriberLimits::allow(int fd, std::string_view message) {
  const auto cookie = fd < 0 ? std::optional<std::uint64_t>(0) : cookie_of(fd);
  // The connection is closed, and its subscriptions have ended.
  if (!cookie) return true;
  Connection& connection = connection_of(fd, *cookie);
  if (connection.shut) return false;
  if (within_limits(connection, message)) return true;
  shut(fd, connection, kTooMany);
  return false;
}

// The first byte, 1, subscribes, or 0, unsubscribes; the topic follows.
bool SubscriberLimits::within_limits(Connection& connection, std::string_view message) {
  const auto now = Clock::now();
  const std::chrono::duration<double> passed = now - connection.filled;
  connection.filled = now;
  connection.left = std::min(kMostAtOnce, connection.left + passed.count() * kMostPerSecond) - 1;
  if (connection.left < 0) return false;
  if (message.starts_with('\1')) connection.topics.emplace(message.substr(1));
  if (message.starts_with('\0')) {
    const auto topic = connection.topics.find(message.substr(1));
    if (topic != connection.topics.end()) connection.topics.erase(topic);
  }
  return connection.topics.size() <= kMostTopics;
}

std::chrono::milliseconds SubscriberLimits::look(bool crowded) {
  forget_closed();
  // Return the memory that libzmq has freed since the last check to the system.
  if (std::exchange(trim_, false)) ::malloc_trim(0);
  const auto now = Clock::now();
  bool unread = false;
  Connection* stuck = nullptr;
  int stuck_fd = -1;
  for (auto& [fd, connection] : connections_) {
    if (fd < 0 || connection.shut) continue;
    watch_input(fd, connection);
    unread = unread || connection.unread_looks > 0;
    watch_output(fd, connection, now);
    if (now - connection.read_at >= kStuck &&
        (stuck == nullptr || connection.read_at < stuck->read_at)) {
      stuck = &connection;
      stuck_fd = fd;
    }
  }
  if (crowded && stuck != nullptr && !stuck->shut) shut(stuck_fd, *stuck, kNotReading);
  return unread ? kLookAgain : kLookEvery;
}

void SubscriberLimits::watch_input(int fd, Connection& connection) {
  int unread = 0;
  if (::ioctl(fd, FIONREAD, &unread) != 0) return;
  connection.unread_looks = unread < kMostUnread ? 0 : connection.unread_looks + 1;
  if (connection.unread_looks < kMostUnreadLooks) return;
  shut(fd, connection, kEndless);
  trim_ = true;
}

void SubscriberLimits::watch_output(int fd, Connection& connection, Clock::time_point now) {
  int unsent = 0;
  if (::ioctl(fd, SIOCOUTQ, &unsent) != 0) return;
  if (unsent == 0 || unsent != connection.unsent_bytes) connection.read_at = now;
  connection.unsent_bytes = unsent;
}

void SubscriberLimits::forget_closed() {
  std::erase_if(connections_, [](const auto& entry) {
    return entry.first >= 0 && cookie_of(entry.first) != entry.second.cookie;
  });
}

// libzmq sees the end of the stream, closes the descriptor and drops the subscriptions. Until then
// no other socket gets this number.
void SubscriberLimits::shut(int fd, Connection& connection, const char* why) {
  connection.shut = true;
  connection.topics.clear();
  say_shut(fd, why);
  if (fd >= 0) ::shutdown(fd, SHUT_RDWR);
}

void SubscriberLimits::say_shut(int fd, const char* why) {
  ++shut_since_;
  const auto now = Clock::now();
  if (said_ != Clock::time_point() && now - said_ < kSayEvery) return;
  const std::string others =
      shut_since_ > 1 ? ", and " + std::to_string(shut_since_ - 1) + " before it" : "";
  said_ = now;
  shut_since_ = 0;
  say_("publish: disconnected a subscriber" + (fd < 0 ? "" : peer_text(fd)) + ": it " + why +
       others + "; stop that program; the trace file is not affected");
}

}  // namespace moetrace
