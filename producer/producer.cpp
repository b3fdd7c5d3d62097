#include "producer/producer.hpp"

#include <pthread.h>

#include <algorithm>
#include <mutex>
#include <vector>

namespace moetrace {

// Makes every producer of this process deaf in a forked child, and gives the child's copy of the lock descriptor back: an
// inherited one would keep the segment alive after the engine's death.
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
                           producer->segment_.release();
                         }
                         instance().mutex.unlock();
                       });
      return made;
    }();
    return *guard;
  }
  void add(Producer* producer) {
    const std::lock_guard lock(mutex);
    producers.push_back(producer);
  }
  void remove(Producer* producer) {
    const std::lock_guard lock(mutex);
    std::erase(producers, producer);
  }
};

Result<std::unique_ptr<Producer>> Producer::open(const Settings& settings) {
  auto segment = ProducerSegment::create(settings.directory, settings.session, settings.header, settings.sizes);
  if (!segment) return segment.error();
  std::unique_ptr<Producer> producer(new Producer(std::move(*segment)));
  ForkGuard::instance().add(producer.get());
  return producer;
}

Producer::Producer(ProducerSegment segment)
    : segment_(std::move(segment)),
      events_(map().event_ring(), map().header().event_slots),
      requests_(map(), events_),
      announcer_(map(), events_, requests_),
      hook_(map()) {}

Producer::~Producer() {
  ForkGuard::instance().remove(this);
  if (forked_) return;
  hook_.close();
  announcer_.close();
  segment_.release();
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
