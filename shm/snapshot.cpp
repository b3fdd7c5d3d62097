#include "shm/snapshot.hpp"

#include "shm/shared_lines.hpp"

namespace moetrace {
namespace {

AlternatingLines<MappedLines> snapshot_lines(const SegmentMap& map) {
  return AlternatingLines(MappedLines(map.state()->snapshots));
}

}  // namespace

void write_snapshot(const SegmentMap& map, const moetrace_snapshot& snapshot) {
  snapshot_lines(map).write(to_line(snapshot));
}

std::optional<moetrace_snapshot> read_snapshot(const SegmentMap& map) {
  const auto line = snapshot_lines(map).read();
  if (!line) return std::nullopt;
  return from_line<moetrace_snapshot>(*line);
}

}  // namespace moetrace
