// Keeps a ring empty during a measurement: a collector's reader on its own thread and mapping,
// which reads the records and writes no file.
#pragma once

#include <atomic>
#include <stdexcept>
#include <string>
#include <thread>

#include "shm/collector_segment.hpp"
#include "shm/snapshot.hpp"

namespace moetrace::bench {

class Drain {
 public:
  // Opens the only segment of `directory`.
  explicit Drain(const std::string& directory)
      : segment_(open(directory)), thread_([this] { run(); }) {}
  Drain(const Drain&) = delete;
  Drain& operator=(const Drain&) = delete;
  ~Drain() {
    stop_ = true;
    thread_.join();
    segment_.unlink();
  }
  std::uint64_t records() const { return records_; }
  void wait_for(std::uint64_t records) const {
    while (records_ < records) std::this_thread::yield();
  }
  // Records without room, as of the end of the last step.
  std::uint64_t dropped() const {
    const auto snapshot = read_snapshot(segment_.map());
    return snapshot ? snapshot->dropped : 0;
  }

 private:
  static CollectorSegment open(const std::string& directory) {
    const auto names = list_segments(directory, "default");
    if (!names || names->size() != 1)
      throw std::runtime_error(directory + ": expected exactly one segment");
    auto segment =
        CollectorSegment::open(directory, names->front(), CollectorSegment::Access::kCollect);
    if (!segment) throw std::runtime_error(segment.error().message);
    return std::move(*segment);
  }
  void run() {
    const SegmentMap& map = segment_.map();
    RingReader<MappedRing> routes(map.route_ring(), map.header().route_slots);
    RingReader<MappedRing> events(map.event_ring(), map.header().event_slots);
    std::uint64_t route = 0;
    std::uint64_t event = 0;
    while (!stop_) {
      const std::uint64_t end = valid_routes_end(map, routes, route, 4096);
      event = events.valid_end(event, 4096);
      events.publish(event);
      if (end == route) {
        std::this_thread::yield();
        continue;
      }
      route = end;
      routes.publish(route);
      records_ = route;
    }
  }

  CollectorSegment segment_;
  std::atomic<std::uint64_t> records_{0};
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace moetrace::bench
