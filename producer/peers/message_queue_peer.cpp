// boost::interprocess::message_queue: a heap of messages by priority, under a mutex in shared
// memory that is not robust.
#include <boost/interprocess/ipc/message_queue.hpp>

#include "producer/peers/harness.hpp"

namespace moetrace::peers {
namespace {

namespace ipc = boost::interprocess;

class MessageQueuePeer {
 public:
  static constexpr std::uint64_t kBurst = kCapacity / 2;
  static constexpr bool kLive = true;

  explicit MessageQueuePeer(const Options&)
      : name_("moetrace-peers-" + std::to_string(::getpid())), removed_(name_) {}

  void open_writer() {}
  void close_writer() {}
  bool send(const Record& record) { return queue_.try_send(&record, sizeof record, 0); }

  void open_reader() {}
  void read(Checker& checker) {
    Record record;
    std::size_t bytes = 0;
    unsigned priority = 0;
    for (std::uint64_t n = 0; n < kBlock; ++n) {
      if (!queue_.try_receive(&record, sizeof record, bytes, priority)) return;
      checker.add(record);
    }
  }

 private:
  struct Removed {
    explicit Removed(const std::string& of) : name(of) { remove(); }
    ~Removed() { remove(); }
    void remove() const { ipc::message_queue::remove(name.c_str()); }
    std::string name;
  };
  const std::string name_;
  const Removed removed_;
  ipc::message_queue queue_{ipc::create_only, name_.c_str(), kCapacity, sizeof(Record)};
};

}  // namespace

Result run_message_queue(const Options& options) {
  return run<MessageQueuePeer>(options);
}

}  // namespace moetrace::peers
