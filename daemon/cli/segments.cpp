#include "daemon/cli/segments.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "common/names.hpp"
#include "common/text.hpp"
#include "shm/layer_mask.hpp"
#include "shm/snapshot.hpp"

namespace moetrace::cli {
namespace {

// The owner of a ring of another user. Nothing: the ring is ours, or gone.
std::optional<uid_t> other_owner(const std::string& ring) {
  struct stat status {};
  if (::lstat(ring.c_str(), &status) != 0 || status.st_uid == ::geteuid()) return std::nullopt;
  return status.st_uid;
}

}  // namespace

std::string ring_directory(const std::string& given) {
  return given.empty() ? default_ring_directory() : given;
}

std::optional<Failure> session_error(const std::string& session) {
  if (is_session_name(session)) return std::nullopt;
  return Failure{kUsage, "session '" + session +
                             "': not a session name; use 1 to 64 letters, digits, '-' and '_'"};
}

boost::system::result<OpenedSegments, Failure> open_segments(const SegmentFilter& filter) {
  const std::string directory = ring_directory(filter.directory);
  if (filter.session) {
    if (auto wrong = session_error(*filter.session)) return *wrong;
  }
  if (::access(directory.c_str(), F_OK) != 0 && errno == ENOENT) {
    return Failure{kNothingThere, directory +
                                      ": no such directory; give --directory (or MOETRACE_DIR) "
                                      "with the directory of the engine's ring"};
  }
  const std::vector<std::string> sessions =
      filter.session ? std::vector{*filter.session} : sessions_in(directory);
  OpenedSegments opened;
  for (const std::string& session : sessions) {
    const auto names = list_segments(directory, session);
    if (!names) return Failure{kFailed, names.error().message};
    for (const SegmentName& name : *names) {
      if (!name.trace_id.starts_with(filter.trace)) continue;
      auto segment = CollectorSegment::open(directory, name, CollectorSegment::Access::kObserve);
      if (segment) {
        opened.segments.push_back(std::move(*segment));
      } else if (segment.error().code == ErrorCode::kNotFound) {
        // Its trace ended after the listing.
        continue;
      } else if (const auto owner = other_owner(directory + "/" + name.ring_file())) {
        ++opened.left_out[*owner];
      } else {
        opened.unusable.push_back(segment.error().message);
      }
    }
  }
  if (opened.segments.empty() && opened.unusable.empty()) {
    const std::string which = (filter.session ? " of session " + *filter.session : std::string()) +
                              (filter.trace.empty() ? std::string() : " of trace " + filter.trace);
    const std::string others = left_out_text(opened);
    return Failure{
        kNothingThere,
        directory + ": no ring" + which +
            (others.empty() ? "" : " that can be opened, only " + others) +
            "; start an engine with MOETRACE=1, or give --directory (or MOETRACE_DIR) with the "
            "directory of its ring"};
  }
  return opened;
}

std::string left_out_text(const OpenedSegments& opened) {
  std::string text;
  for (const auto& [owner, count] : opened.left_out) {
    text +=
        (text.empty() ? "" : ", ") + counted(count, "ring") + " of uid " + std::to_string(owner);
  }
  return text;
}

int report_unusable(const OpenedSegments& opened) {
  if (const std::string others = left_out_text(opened); !others.empty())
    std::fprintf(stderr, "moetrace: left out %s: can't be opened; run this as their user\n",
                 others.c_str());
  for (const std::string& why : opened.unusable)
    std::fprintf(stderr, "moetrace: %s\n", why.c_str());
  return opened.unusable.empty() ? kOk : kFailed;
}

double SegmentCounters::fill(std::uint64_t route_slots) const {
  const std::uint64_t waiting = recorded > consumed ? recorded - consumed : 0;
  return static_cast<double>(std::min(waiting, route_slots)) / static_cast<double>(route_slots);
}

SegmentCounters read_counters(const CollectorSegment& segment) {
  SegmentCounters counters;
  if (!segment.intact()) return counters;
  const SegmentMap& map = segment.map();
  // relaxed: numbers for a person; each is a total of its own, and none orders another.
  const auto word = [](std::uint64_t* at) {
    return SharedWord(at).load(std::memory_order_relaxed);
  };
  moetrace_host_counters* host = &map.state()->host;
  counters.steps = word(&host->steps);
  counters.attempted = word(&host->attempted);
  counters.event_lost = word(&host->event_lost);
  counters.closed = word(&host->closed) != 0;
  counters.cost = read_cost(map);
  counters.consumed = word(&map.ctl()->route_consumed);
  counters.generation = word(&map.ctl()->collector_generation);
  if (const auto snapshot = read_snapshot(map)) {
    counters.recorded = snapshot->claimed;
    counters.dropped = snapshot->dropped;
  }
  // The snapshot is from the end of a step; the collector may have consumed rows of the next step,
  // which were recorded, too.
  counters.recorded = std::max(counters.recorded, counters.consumed);
  counters.dropped += counters.event_lost;
  return counters;
}

std::uint64_t waiting_rows(const CollectorSegment& segment) {
  if (!segment.intact()) return 0;
  const SegmentMap& map = segment.map();
  const SegmentCounters counters = read_counters(segment);
  const std::uint64_t slots = map.header().route_slots;
  const RingReader<MappedRing> routes(map.route_ring(), slots, counters.consumed);
  const std::uint64_t valid =
      valid_routes_end(map, routes, counters.consumed, slots) - counters.consumed;
  return std::min(slots, std::max(valid, counters.recorded - counters.consumed));
}

ControlWords control_words(const CollectorSegment& segment) {
  const SegmentMap& map = segment.map();
  if (const auto current = read_control(map)) return current->words;
  return {true, map.header().sample_every, map.header().layers_logged};
}

std::string describe(const ControlWords& words) {
  std::string text =
      std::string(words.enabled ? "on" : "off") + ", layers " + format_layers(words.layers);
  if (words.sample_every == 0) return text + ", counting only";
  if (words.sample_every == 1) return text + ", every step";
  return text + ", one step in " + std::to_string(words.sample_every);
}

}  // namespace moetrace::cli
