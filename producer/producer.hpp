// The producer behind the C API: one segment, its announcer and its hook.
#pragma once

#include <memory>
#include <span>

#include "producer/announcer.hpp"
#include "producer/host_hook.hpp"
#include "producer/settings.hpp"

namespace moetrace {

class Producer {
 public:
  static Result<std::unique_ptr<Producer>> open(const Settings& settings);
  ~Producer();
  Producer(const Producer&) = delete;
  Producer& operator=(const Producer&) = delete;

  const SegmentMap& map() const { return segment_.map(); }
  const SegmentName& name() const { return segment_.name(); }
  // False in a forked child, where the mappings do not exist: no other member may be called there.
  bool usable() const { return !forked_; }

  RequestBook& requests() { return requests_; }
  Announcer& announcer() { return announcer_; }
  EventWriter& events() { return events_; }
  HostHook& hook() { return hook_; }

  bool begin_step(std::uint32_t rows, std::span<const moetrace_span> spans);
  void abort_step() { hook_.arm({}); }

 private:
  explicit Producer(ProducerSegment segment);
  friend struct ForkGuard;

  ProducerSegment segment_;
  EventWriter events_;
  RequestBook requests_;
  Announcer announcer_;
  HostHook hook_;
  bool forked_ = false;
};

}  // namespace moetrace
