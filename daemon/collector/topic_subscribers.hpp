// Whether anyone subscribes to a topic, so that nothing is made for nobody.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>

namespace moetrace {

// An upper bound: what a hostile subscriber sends can raise the number, never lower it for others.
class TopicSubscribers {
 public:
  // `topic`: a literal.
  explicit TopicSubscribers(std::string_view topic) : topic_(topic) {}

  // A message of the connection `sender`: it subscribes to `prefix`, or no longer does. -1: libzmq
  // does not name the connection, or it has ended. A prefix of other topics changes nothing.
  void take(int sender, std::string_view prefix, bool subscribes);
  // Forgets all connections.
  void clear();

  // Any thread may call it.
  // relaxed: rows that are read before the answer changes are missed, like those before the
  // subscription.
  bool any() const { return count_.load(std::memory_order_relaxed) > 0; }

 private:
  std::string_view topic_;
  std::atomic<std::uint64_t> count_{0};
  // By connection and prefix.
  std::map<std::pair<int, std::string>, std::uint64_t> prefixes_;
};

}  // namespace moetrace
