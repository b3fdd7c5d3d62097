#include "producer/ring_producer.hpp"

#include <pthread.h>

#include <algorithm>
#include <mutex>
#include <vector>

#include "producer/clock.hpp"
#include "shm/layer_mask.hpp"
#include "shm/session_claim.hpp"
#include "shm/snapshot.hpp"

namespace moetrace {
namespace {

std::string summarise(const Settings& settings, const SegmentName& name) {
  const moetrace_ring_header& h = settings.header;
  std::string line;
  if (*h.model_id != '\0') line = std::string(h.model_id) + ": ";
  line += "layers " + format_layers(h.layers_logged);
  if (h.sample_every == 0) line += ", counted only";
  if (h.sample_every > 1) line += ", one pass in " + std::to_string(h.sample_every);
  return line + ", session " + name.session + ", ring " + settings.directory + "/" +
         name.ring_file() + ": " + settings.ring_text;
}

}  // namespace

// Turns off every producer of this process in a forked child, and closes the child's copy of the
// lock descriptor: an inherited copy would keep the segment alive after the engine's death. The
// mutex is held across every fork, and whenever a lock descriptor is opened or closed.
struct ForkGuard {
  std::mutex mutex;
  std::vector<RingProducer*> producers;

  static ForkGuard& instance() {
    static ForkGuard* guard = [] {
      // Never destroyed: a fork may happen at any time.
      auto* made = new ForkGuard;
      ::pthread_atfork([] { instance().mutex.lock(); }, [] { instance().mutex.unlock(); },
                       [] {
                         for (RingProducer* producer : instance().producers) {
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

Result<std::unique_ptr<RingProducer>> RingProducer::open(const Settings& settings) {
  ForkGuard& guard = ForkGuard::instance();
  // Holds off forks until the guard knows the producer that owns the lock's descriptor.
  const std::lock_guard lock(guard.mutex);
  guard.producers.reserve(guard.producers.size() + 1);
  auto segment = ProducerSegment::build(settings.directory, settings.session, settings.header,
                                        settings.sizes, settings.layers);
  if (!segment) return segment.error();
  // After the segment: if anything below fails, the GPU lets go of the mappings first.
  std::unique_ptr<DeviceHook> device_hook;
  if (settings.header.claimer == MOETRACE_CLAIMER_GPU) {
    auto opened = DeviceHook::open(segment->map(), settings.cuda_device);
    if (!opened) return opened.error();
    device_hook = std::move(*opened);
  }
  if (const auto failed = segment->publish()) return *failed;
  std::unique_ptr<RingProducer> producer(
      new RingProducer(settings, std::move(*segment), std::move(device_hook)));
  guard.producers.push_back(producer.get());
  return producer;
}

RingProducer::RingProducer(const Settings& settings, ProducerSegment segment,
                           std::unique_ptr<DeviceHook> device_hook)
    : segment_(std::move(segment)),
      device_hook_(std::move(device_hook)),
      directory_(settings.directory),
      summary_(summarise(settings, segment_.name())),
      events_(map().event_ring(), map().header().event_slots),
      requests_(map(), events_),
      announcer_(map(), events_, requests_),
      hook_(map()) {
  if (device_hook_ == nullptr) return;
  // From here on the engine may capture graphs.
  device_hook_->keep();
  segment_.keep_mapped();
}

RingProducer::~RingProducer() {
  if (usable()) {
    if (device_hook_ != nullptr) {
      device_hook_->close();
    } else {
      hook_.close();
    }
    store_cost();
    announcer_.close();
  }
  ForkGuard& guard = ForkGuard::instance();
  // As in open(): a child must not inherit a descriptor that it would never close.
  const std::lock_guard lock(guard.mutex);
  segment_.release();
  std::erase(guard.producers, this);
}

const std::string& RingProducer::no_collector() {
  no_collector_.clear();
  if (!SessionClaim::held(directory_, name().session)) {
    no_collector_ = "no collector serves this trace yet: the ring keeps the first " +
                    std::to_string(map().header().route_slots) +
                    " records; start moetraced --session " + name().session + " --directory " +
                    directory_;
  }
  return no_collector_;
}

bool RingProducer::begin_step(std::uint32_t rows, const Spans& spans) {
  // A ring has one writer that reserves slots, and here it is the GPU.
  if (device_hook_ != nullptr) return false;
  const StepBlock block = rows == 0 ? StepBlock{} : announcer_.announce(rows, spans);
  hook_.arm(block);
  end_announcement(block);
  return block.record;
}

void RingProducer::begin_replayed_step(std::uint32_t rows, const Spans& spans,
                                       const moetrace_layer_mask& layers) {
  const StepBlock block = announcer_.announce_layers(rows, spans, layers);
  hook_.arm(block);
  end_announcement(block);
}

void RingProducer::abort_step() {
  if (device_hook_ == nullptr) hook_.arm({});
}

bool RingProducer::begin_step(moetrace_cuda_stream stream, std::uint32_t rows, const Spans& spans,
                              Capture capture) {
  if (!can_announce(stream, capture)) return false;
  const StepBlock block = rows == 0 ? StepBlock{} : announcer_.announce(rows, spans);
  device_hook_->announce(stream, block);
  end_announcement(block);
  return block.record;
}

void RingProducer::abort_step(moetrace_cuda_stream stream) {
  if (can_announce(stream, Capture::kMaybe)) device_hook_->announce(stream, {});
}

bool RingProducer::can_announce(moetrace_cuda_stream stream, Capture capture) const {
  if (device_hook_ == nullptr || !device_hook_->failure().empty()) return false;
  return capture == Capture::kNone || !device_hook_->captures(stream);
}

// An announcement began at block.time_ns.
void RingProducer::end_announcement(const StepBlock& block) {
  if (block.rows == 0) return;
  const std::int64_t began = map().header().created_monotonic_ns + block.time_ns;
  cost_.announce_ns += static_cast<std::uint64_t>(monotonic_ns() - began);
  store_cost();
}

void RingProducer::add_cost(const Cost& more) {
  cost_.announce_ns += more.announce_ns;
  cost_.hook_ns += more.hook_ns;
  store_cost();
}

void RingProducer::store_cost() {
  write_cost(map(), cost());
}

RingProducer::RecordCounts RingProducer::record_counts() const {
  if (device_hook_ == nullptr) return {hook_.claimed(), hook_.dropped() + announcer_.event_lost()};
  const auto snapshot = read_snapshot(map());
  if (!snapshot) return {0, announcer_.event_lost()};
  return {snapshot->claimed, snapshot->dropped + announcer_.event_lost()};
}

}  // namespace moetrace
