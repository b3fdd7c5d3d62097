// boost::lockfree::spsc_queue, with its slots inside the object, in shared memory.
#include <boost/lockfree/spsc_queue.hpp>

#include "producer/peers/harness.hpp"

namespace moetrace::peers {
namespace {

class SpscQueuePeer {
 public:
  static constexpr std::uint64_t kBurst = kCapacity / 2;
  static constexpr bool kLive = true;

  explicit SpscQueuePeer(const Options&) {}

  void open_writer() {}
  void close_writer() {}
  bool send(const Record& record) { return queue_->push(record); }

  void open_reader() {}
  void read(Checker& checker) {
    Record records[kBlock];
    const std::size_t count = queue_->pop(records, kBlock);
    for (std::size_t n = 0; n < count; ++n) checker.add(records[n]);
  }

 private:
  Shared<boost::lockfree::spsc_queue<Record, boost::lockfree::capacity<kCapacity>>> queue_;
};

}  // namespace

Result run_spsc_queue(const Options& options) {
  return run<SpscQueuePeer>(options);
}

}  // namespace moetrace::peers
