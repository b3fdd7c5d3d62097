#include "daemon/collector/topic_subscribers.hpp"

namespace moetrace {

// An explicit end counts only after a beginning on the same connection; libzmq reports the end of a
// connection itself, without a sender.
void TopicSubscribers::take(int sender, std::string_view prefix, bool subscribes) {
  if (!topic_.starts_with(prefix)) return;
  std::uint64_t count = count_.load(std::memory_order_relaxed);
  std::uint64_t& of_sender = prefixes_[{sender, std::string(prefix)}];
  if (subscribes) {
    ++of_sender;
    ++count;
  } else if (count > 0 && (sender < 0 || of_sender > 0)) {
    if (sender >= 0) --of_sender;
    --count;
  }
  if (of_sender == 0) prefixes_.erase({sender, std::string(prefix)});
  count_.store(count, std::memory_order_relaxed);
}

void TopicSubscribers::clear() {
  prefixes_.clear();
  count_.store(0, std::memory_order_relaxed);
}

}  // namespace moetrace
