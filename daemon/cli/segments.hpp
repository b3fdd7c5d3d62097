// The segments in a ring directory, for status, top and the control commands.
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
  // "": the default ring directory.
  std::string directory;
  // Nothing: every session.
  std::optional<std::string> session;
  // How the trace id begins; "": every trace.
  std::string trace;
};

struct OpenedSegments {
  // Sorted by session, then by trace id.
  std::vector<CollectorSegment> segments;
  // One line for each of our segments that can't be opened.
  std::vector<std::string> unusable;
  // By owner: how many segments of other users can't be opened.
  std::map<uid_t, std::size_t> left_out;
};

// `given`, or the default ring directory if it is empty.
std::string ring_directory(const std::string& given);

// Why the text can't be a session's name; nothing if it can.
std::optional<Failure> session_error(const std::string& session);

// Opens every segment that fits, without taking it from its collector. Fails with kNothingThere if
// none fits.
boost::system::result<OpenedSegments, Failure> open_segments(const SegmentFilter& filter);

// "2 segments of uid 1001": the segments of other users; "" without such.
std::string left_out_text(const OpenedSegments& opened);
// Prints to standard error a line for each of our segments that can't be opened, and one line for
// all segments of other users. Returns the command's exit code, which other users can't change.
int report_unusable(const OpenedSegments& opened);

// Counters of a segment, read once.
struct SegmentCounters {
  std::uint64_t steps = 0;
  std::uint64_t attempted = 0;
  std::uint64_t event_lost = 0;
  // Slots claimed by the end of the last step, or consumed since.
  std::uint64_t recorded = 0;
  // Rows that found no slot in the route ring, or no room for their announcement.
  std::uint64_t dropped = 0;
  std::uint64_t consumed = 0;
  // How many collectors have attached so far.
  std::uint64_t generation = 0;
  bool closed = false;
  // Nothing: the producer is older than ABI 1.2.
  std::optional<Cost> cost;

  // The share of the ring that waits for the collector.
  double fill(std::uint64_t route_slots) const;
};
SegmentCounters read_counters(const CollectorSegment& segment);

// Rows in the ring that no collector has consumed, with the rows of an unfinished step.
std::uint64_t waiting_rows(const CollectorSegment& segment);

// The control words; while they can't be read, the settings that the producer began with.
ControlWords control_words(const CollectorSegment& segment);
// on, layers 0,5-7, one step in 10
std::string describe(const ControlWords& words);

}  // namespace moetrace::cli
