// The collector: finds segments as they appear, drains several at once, and publishes what was
// written.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "daemon/collector/options.hpp"
#include "daemon/collector/plot_jobs.hpp"
#include "daemon/collector/publisher.hpp"
#include "daemon/collector/segment_drain.hpp"

namespace moetrace {

class Collector {
 public:
  // `say` prints one line for the user: errors, warnings and, unless it is to be quiet, when traces
  // begin and end.
  Collector(CollectorOptions options, Publisher publisher,
            std::function<void(const std::string&)> say);

  // One round over everything. True if something moved, so that another round should follow at
  // once.
  bool round();

  // Drains what the rings hold now, as far as the file system lets us, then lets go of living
  // traces.
  void stop();

  // With --once: the first trace has ended.
  bool done() const { return options_.once && ended_ > 0; }
  // A trace could not be written to its end.
  bool failed() const { return failed_; }
  bool idle() const { return traces_.empty(); }
  const Publisher& publisher() const { return publisher_; }

 private:
  struct Trace {
    std::unique_ptr<SegmentDrain> drain;
    Channel channel;
    std::uint64_t stats_version = 0;
    bool blocked = false;
  };

  void discover();
  void attach(const SegmentName& name);
  void quarantine(const SegmentName& name, const std::string& why);
  bool drain_all();
  void publish_stats(Trace& trace);
  void end(Trace& trace);
  void say_begun(const SegmentDrain& drain) const;
  void say_ended(const SegmentDrain& drain) const;

  CollectorOptions options_;
  Publisher publisher_;
  std::function<void(const std::string&)> say_;
  PlotJobs plots_;
  std::map<std::string, Trace> traces_;     // by trace id
  std::set<std::string> quarantined_;       // trace ids that are not looked at again
  std::set<std::string> served_elsewhere_;  // said once
  std::set<std::string> left_behind_;       // drained, and not ours to remove
  std::chrono::steady_clock::time_point discovered_;
  std::chrono::steady_clock::time_point stats_;
  bool directory_failed_ = false;
  std::size_t ended_ = 0;
  bool failed_ = false;
};

}  // namespace moetrace
