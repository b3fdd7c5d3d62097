#include "producer/producer.hpp"

#include <pthread.h>

#include <algorithm>
#include <mutex>
#include <vector>

namespace moetrace {

// Makes every producer of this process deaf in a forked child, and gives the child's copy of the
// lock descriptor back: an inherited one would keep the segment alive after the engine's death. The
// mutex is held across every fork, and whenever a lock descriptor comes or goes.
struct ForkGuard {
  std::mutex mutex;
  std::vector<Producer*> producers;

  static ForkGuard& instance() {
    static ForkGuard* guard = [] {
      auto* made = new ForkGuard;  // never destroyed: a fork may come at any time
      ::pthread_atfork([] { instance().mutex.lock(); }, [] { instance().mutex.unlock(); },
                       [] {
                         for (Producer* producer : instance().producers) {
                           producer->forked_ = true;
                           producer->segment_.release_in_child();
                         }
                         instance().mutex.unlock();
                       });
      return made;
    }();
    return *guard;
  }
};

Result<std::unique_ptr<Producer>> Producer::open(const Settings& settings) {
  ForkGuard& guard = ForkGuard::instance();
  // Another thread's fork waits until the lock's descriptor has an owner that the child will find.
  const std::lock_guard lock(guard.mutex);
  guard.producers.reserve(guard.producers.size() + 1);
  auto segment = ProducerSegment::create(settings.directory, settings.session, settings.header,
                                         settings.sizes);
  if (!segment) return segment.error();
  std::unique_ptr<Producer> producer(new Producer(std::move(*segment)));
  guard.producers.push_back(producer.get());
  return producer;
}

Producer::Producer(ProducerSegment segment)
    : segment_(std::move(segment)),
      events_(map().event_ring(), map().header().event_slots),
      requests_(map(), events_),
      announcer_(map(), events_, requests_),
      hook_(map()) {}

Producer::~Producer() {
  if (usable()) {
    hook_.close();
    announcer_.close();
  }
  ForkGuard& guard = ForkGuard::instance();
  const std::lock_guard lock(
      guard.mutex);  // as in open(): no child may be born with a descriptor that nobody closes
  segment_.release();
  std::erase(guard.producers, this);
}

bool Producer::begin_step(std::uint32_t rows, std::span<const moetrace_span> spans) {
  if (rows == 0) {
    hook_.arm({});
    return false;
  }
  const StepBlock block = announcer_.announce(rows, spans);
  hook_.arm(block);
  return block.record;
}

}  // namespace moetrace
