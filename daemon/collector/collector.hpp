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
#include "daemon/collector/output_names.hpp"
#include "daemon/collector/plot_jobs.hpp"
#include "daemon/collector/publisher.hpp"
#include "daemon/collector/segment_drain.hpp"

namespace moetrace {

class Collector {
 public:
  struct Report {
    // Prints one line for the user: errors, warnings and, unless it is to be quiet, when traces
    // begin and end.
    std::function<void(const std::string& line)> say;
    // Is told of each file in which a trace begins or goes on.
    std::function<void(const std::string& path)> writes;
  };
  Collector(CollectorOptions options, Publisher publisher, Report report);

  // One round over everything. True if something moved, so that another round should follow at
  // once.
  bool round();

  // SIGHUP: each trace goes on in a new file, its next part, and what failed is tried at once.
  void hang_up();

  // Drains what the rings hold now, as far as the file system lets us, then lets go of living
  // traces.
  void stop();

  // With --once: the first trace has ended.
  bool done() const { return options_.once && ended_ > 0; }
  // A trace could not be written to its end.
  bool failed() const { return failed_; }
  bool idle() const { return traces_.empty(); }

 private:
  using Clock = std::chrono::steady_clock;

  struct Trace {
    Trace(OutputNames names_, std::string id, std::uint64_t generation);

    std::unique_ptr<SegmentDrain> drain;
    OutputNames names;
    Channel channel;
    std::uint64_t stats_version = 0;
    std::string blocked_by;     // why its file can't take more, as it was said
    bool change_file = false;   // wanted by hang_up()
    Clock::time_point replace;  // of a lost file: not before
  };
  // A segment that could not be drained when it was last tried.
  struct Waiting {
    std::string why;  // as it was said
    Clock::time_point again;
    std::chrono::milliseconds interval{0};
  };

  void discover();
  void attach(const SegmentName& name);
  void try_later(const SegmentName& name, const std::string& why);
  void quarantine(const SegmentName& name, const std::string& why);
  bool drain_all();
  void say_blocked(Trace& trace, const std::string& why);
  void change_file(Trace& trace);
  void replace_lost_file(Trace& trace);
  void publish_stats(Trace& trace);
  void end(Trace& trace);
  void say_begun(const SegmentDrain& drain) const;
  void say_ended(const SegmentDrain& drain) const;

  CollectorOptions options_;
  Publisher publisher_;
  Report report_;
  PlotJobs plots_;
  std::map<std::string, Trace> traces_;     // by trace id
  std::map<std::string, Waiting> waiting_;  // by trace id
  std::set<std::string> quarantined_;       // trace ids that are not looked at again
  std::set<std::string> served_elsewhere_;  // said once
  std::set<std::string> left_behind_;       // drained, and not ours to remove
  Clock::time_point discovered_;
  Clock::time_point stats_;
  bool directory_failed_ = false;
  std::size_t ended_ = 0;
  bool failed_ = false;
};

}  // namespace moetrace
