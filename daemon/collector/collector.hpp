// The collector: finds segments as they appear, drains several at once, and publishes the written
// lines.
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
#include "daemon/collector/size_limit.hpp"
#include "daemon/collector/write_rate.hpp"

namespace moetrace {

class Collector {
 public:
  struct Report {
    // Prints one line for the user: errors, warnings and, without --quiet, the begin and end of
    // each trace.
    std::function<void(const std::string& line)> say;
    // Gets the path of each file in which a trace begins or continues.
    std::function<void(const std::string& path)> writes;
    // Gets the path of each file of a trace that --keep has removed.
    std::function<void(const std::string& path)> removed;
  };
  Collector(CollectorOptions options, Publisher publisher, Report report);

  // One pass over all traces. True if any row or event moved: call it again at once.
  bool round();
  // How long to pause after `rounds` rounds in a row, at least one, in which nothing moved.
  std::chrono::microseconds pause_after(int rounds) const;

  // SIGHUP: from now on these options hold, in as far as they can be reloaded (setting.hpp); the
  // others must be those of the constructor. Continues each trace in a new file, its next part, and
  // retries failures at once.
  void hang_up(const CollectorOptions& options);

  // Drains the rings as far as the file system allows, then detaches from live traces.
  void stop();

  // With --once: the first trace has ended.
  bool done() const { return options_.once && ended_ > 0; }
  // A trace could not be written to its end.
  bool failed() const { return failed_; }

 private:
  using Clock = std::chrono::steady_clock;

  struct Trace {
    Trace(OutputNames names_, std::string id, std::uint64_t generation);

    std::unique_ptr<SegmentDrain> drain;
    OutputNames names;
    Channel channel;
    std::uint64_t stats_version = 0;
    // Why its file takes no more, as printed last.
    std::string blocked_by;
    // Set by hang_up().
    bool change_file = false;
    // The part whose beginning is in its file, and when that began; 0: none yet.
    std::uint64_t part = 0;
    Clock::time_point part_began;
    // Do not try to begin another before this time; and why the last try failed, as printed.
    Clock::time_point next_part;
    std::string no_part_because;
    // Bytes of its files when this collector began to write it, without those of the drain.
    std::uint64_t bytes_before = 0;
    WriteRate rate;
    // The file in which `part` is.
    std::string path;
    // Recording was found off, or switched off, since the limit was reached.
    bool stop_seen = false;
    // Those that --keep says, for this part; and which of them can't be, as printed last.
    bool old_parts_removed = false;
    std::string unremoved;
    // Do not try before this time to replace a lost file, or to begin a wide part.
    Clock::time_point replace;
  };
  // A segment whose last attach failed.
  struct Waiting {
    // As printed last.
    std::string why;
    Clock::time_point again;
    std::chrono::milliseconds interval{0};
  };

  void discover();
  void attach(const SegmentName& name);
  void try_later(const SegmentName& name, const std::string& why);
  void quarantine(const SegmentName& name, const std::string& why);
  bool drain_all();
  PartStart part_start(const SegmentDrain& drain) const;
  void say_blocked(Trace& trace, const std::string& why);
  void begin_wide_part(Trace& trace);
  std::string change_file(Trace& trace);
  void note_earlier_parts(Trace& trace);
  void note_part(Trace& trace);
  void remove_old_parts(Trace& trace);
  void begin_due_part(Trace& trace);
  std::uint64_t total_bytes() const;
  std::uint64_t reserved_bytes() const;
  void keep_total_size();
  void forget_stops();
  void resume_stop(Trace& trace);
  // kNow: by this call. kBefore: it was off when the limit was reached.
  enum class Stopped { kNot, kNow, kBefore };
  Stopped stop_recording(Trace& trace);
  void say_stopped(std::size_t stopped, std::size_t stay_off) const;
  void publish_written();
  void replace_lost_file(Trace& trace);
  void publish_stats(Trace& trace);
  void end(Trace& trace);
  void say_begun(const SegmentDrain& drain) const;
  void say_ended(const SegmentDrain& drain) const;

  CollectorOptions options_;
  // Outlives traces_.
  Encoders encoders_;
  Publisher publisher_;
  Report report_;
  PlotJobs plots_;
  // All by trace id.
  std::map<std::string, Trace> traces_;
  std::map<std::string, Waiting> waiting_;
  // Bad segments: never attach again.
  std::set<std::string> quarantined_;
  // Segments of another collector; printed once.
  std::set<std::string> served_elsewhere_;
  // Drained segments that we may not remove.
  std::set<std::string> left_behind_;
  // Of parts that are over, in all traces; and whether the limit is reached, and when that was
  // seen.
  WrittenFiles finished_files_;
  bool over_limit_ = false;
  Clock::time_point limit_look_;
  Clock::time_point discovered_;
  Clock::time_point stats_;
  // The last round in which a row or an event moved.
  Clock::time_point moved_;
  bool directory_failed_ = false;
  std::size_t ended_ = 0;
  bool failed_ = false;
};

}  // namespace moetrace
