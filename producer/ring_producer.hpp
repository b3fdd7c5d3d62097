// The producer that the C API wraps: one segment with its announcer, its request table and its
// hook.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "producer/announcer.hpp"
#include "producer/device_hook.hpp"
#include "producer/host_hook.hpp"
#include "producer/settings.hpp"
#include "shm/cost.hpp"
#include "shm/producer_segment.hpp"

namespace moetrace {

class RingProducer {
 public:
  static Result<std::unique_ptr<RingProducer>> open(const Settings& settings);
  ~RingProducer();
  RingProducer(const RingProducer&) = delete;
  RingProducer& operator=(const RingProducer&) = delete;

  const SegmentMap& map() const { return segment_.map(); }
  const SegmentName& name() const { return segment_.name(); }
  // See moetrace_summary.
  const std::string& summary() const { return summary_; }
  // See moetrace_no_collector; empty if a collector serves the session.
  const std::string& no_collector();
  // False in a forked child, which has no mappings. Call no other member there.
  bool usable() const { return !forked_; }

  RequestTable& requests() { return requests_; }
  Announcer& announcer() { return announcer_; }
  EventWriter& events() { return events_; }
  HostHook& hook() { return hook_; }

  // nullptr if a CPU thread writes the ring.
  DeviceHook* device_hook() { return device_hook_.get(); }

  // Announces a pass whose routing will lie in host memory. Returns whether it is recorded; false
  // if a GPU writes the ring.
  bool begin_step(std::uint32_t rows, const Spans& spans);
  void abort_step();
  // Announces a pass that records exactly `layers`, whatever the control words say. For
  // `moetrace replay`.
  void begin_replayed_step(std::uint32_t rows, const Spans& spans,
                           const moetrace_layer_mask& layers);
  // Announces a pass on a stream of the GPU. Returns whether it is recorded; false under capture
  // and after a failure. kNone: the caller knows that the stream is not being captured; asking CUDA
  // takes 4 us with cold caches.
  enum class Capture { kMaybe, kNone };
  bool begin_step(moetrace_cuda_stream stream, std::uint32_t rows, const Spans& spans,
                  Capture capture = Capture::kMaybe);
  void abort_step(moetrace_cuda_stream stream);

  // Records in the ring so far, and records without room, those of lost announcements included. On
  // a GPU: as of the end of its last finished step.
  struct RecordCounts {
    std::uint64_t recorded;
    std::uint64_t dropped;
  };
  RecordCounts record_counts() const;

  // Time of the engine's threads so far, including what add_cost() reported.
  Cost cost() const { return {cost_.announce_ns, cost_.hook_ns + hook_.cost_ns()}; }
  void add_cost(const Cost& more);
  // The C API adds the time before begin_step() here.
  std::uint64_t& announce_ns() { return cost_.announce_ns; }
  // The C API adds the time of the device hook's calls here.
  std::uint64_t& launch_ns() { return cost_.hook_ns; }

 private:
  bool can_announce(moetrace_cuda_stream stream, Capture capture) const;
  void end_announcement(const StepBlock& block);
  void store_cost();
  RingProducer(const Settings& settings, ProducerSegment segment,
               std::unique_ptr<DeviceHook> device_hook);
  friend struct ForkGuard;

  ProducerSegment segment_;
  // nullptr if a CPU thread writes the ring. After segment_: it lets go of the mappings first.
  std::unique_ptr<DeviceHook> device_hook_;
  const std::string directory_;
  const std::string summary_;
  std::string no_collector_;
  EventWriter events_;
  RequestTable requests_;
  Announcer announcer_;
  HostHook hook_;
  // Without the host hook's time, which hook_ estimates itself.
  Cost cost_;
  bool forked_ = false;
};

}  // namespace moetrace
