#include "daemon/cli/run_rings.hpp"

#include "daemon/cli/segments.hpp"
#include "shm/collector_segment.hpp"
#include "shm/segment_names.hpp"
#include "shm/session_claim.hpp"

namespace moetrace::cli {

RingsNow look_at_rings(const std::string& directory, const std::string& session) {
  RingsNow now;
  const auto names = list_segments(directory, session);
  if (!names) return now;
  now.count = names->size();
  for (const SegmentName& name : *names) {
    const auto segment =
        CollectorSegment::open(directory, name, CollectorSegment::Access::kObserve);
    if (!segment) continue;
    now.producing = now.producing || segment->producer_alive();
    now.consumed += read_counters(*segment).consumed;
  }
  return now;
}

std::vector<RingLeft> rings_left(const std::string& directory, const std::string& session) {
  std::vector<RingLeft> left;
  const auto names = list_segments(directory, session);
  if (!names) return left;
  for (const SegmentName& name : *names) {
    RingLeft ring;
    ring.path = directory + "/" + name.ring_file();
    ring.trace_id = name.trace_id;
    const auto segment =
        CollectorSegment::open(directory, name, CollectorSegment::Access::kObserve);
    if (!segment && segment.error().code == ErrorCode::kNotFound) continue;
    if (!segment) {
      ring.unusable = segment.error().message;
    } else {
      if (segment->producer_alive()) ring.pid = segment->map().header().producer_pid;
      ring.rows = waiting_rows(*segment);
    }
    left.push_back(std::move(ring));
  }
  return left;
}

void remove_dead_claim(const std::string& directory, const std::string& session) {
  [[maybe_unused]] const auto claim = SessionClaim::take(directory, session);
}

}  // namespace moetrace::cli
