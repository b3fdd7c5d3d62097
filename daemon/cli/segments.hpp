// The segments in the ring directory, as status, top and the control commands see them.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "daemon/cli/outcome.hpp"
#include "shm/collector_segment.hpp"
#include "shm/control_words.hpp"
#include "shm/cost.hpp"

namespace moetrace::cli {

struct SegmentFilter {
  std::optional<std::string> session;  // nothing: all
  std::string trace;                   // how the trace id begins; "": all
};

struct OpenedSegments {
  std::vector<CollectorSegment> segments;  // in the order of their sessions and trace ids
  std::vector<std::string> unusable;       // why, for each of ours that can't be opened
  std::map<uid_t, std::size_t> left_out;   // how many of other users can't be opened
};

// Why it can't be a session's name; nothing if it can.
std::optional<Failure> session_error(const std::string& session);

// Every segment that fits, opened without taking it from its collector. A failure (69) says that
// there is none.
boost::system::result<OpenedSegments, Failure> open_segments(const SegmentFilter& filter);

// "2 segments of uid 1001", for those of other users; "" if there are none.
std::string left_out_text(const OpenedSegments& opened);
// A line on standard error for each of our segments that can't be opened, and one for all of other
// users. The command's exit code: those of other users don't make it fail.
int report_unusable(const OpenedSegments& opened);

// Counters of a segment, read once.
struct SegmentCounters {
  std::uint64_t steps = 0;
  std::uint64_t attempted = 0;
  std::uint64_t event_lost = 0;
  std::uint64_t recorded = 0;  // slots claimed by the end of the last step, or consumed since
  std::uint64_t dropped = 0;   // no slot in the route ring, nor room for the announcement
  std::uint64_t consumed = 0;
  std::uint64_t generation = 0;  // collectors that have served it so far
  bool closed = false;
  std::optional<Cost> cost;  // nothing: an older producer, which does not say it

  // Slots that wait for the collector, as a share of the ring.
  double fill(std::uint64_t route_slots) const;
};
SegmentCounters read_counters(const CollectorSegment& segment);

// Rows in the ring that no collector has taken out, those of an unfinished step included.
std::uint64_t waiting_rows(const CollectorSegment& segment);

// What the control words ask for; what the producer began with while they can't be read.
ControlWords control_words(const CollectorSegment& segment);
// on, layers 0,5-7, one step in 10
std::string describe(const ControlWords& words);

}  // namespace moetrace::cli
