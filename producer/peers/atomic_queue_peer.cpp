// atomic_queue::AtomicQueue2 for one writer and one reader, in shared memory.
#include <atomic_queue/atomic_queue.h>

#include "producer/peers/harness.hpp"

namespace moetrace::peers {
namespace {

class AtomicQueuePeer {
 public:
  static constexpr std::uint64_t kBurst = kCapacity / 2;
  static constexpr bool kLive = true;

  explicit AtomicQueuePeer(const Options&) {}

  void open_writer() {}
  void close_writer() {}
  bool send(const Record& record) { return queue_->try_push(record); }

  void open_reader() {}
  void read(Checker& checker) {
    Record record;
    for (std::uint64_t n = 0; n < kBlock && queue_->try_pop(record); ++n) checker.add(record);
  }

 private:
  static constexpr bool kMinimizeContention = true, kMaximizeThroughput = true, kTotalOrder = false,
                        kOneWriterOneReader = true;
  Shared<atomic_queue::AtomicQueue2<Record, kCapacity, kMinimizeContention, kMaximizeThroughput,
                                    kTotalOrder, kOneWriterOneReader>>
      queue_;
};

}  // namespace

Result run_atomic_queue(const Options& options) {
  return run<AtomicQueuePeer>(options);
}

}  // namespace moetrace::peers
