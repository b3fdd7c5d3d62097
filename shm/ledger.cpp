#include "shm/ledger.hpp"

#include "shm/shared_lines.hpp"

namespace moetrace {
namespace {

AlternatingLines<MappedLines> ledger_lines(const SegmentMap& map) {
  return AlternatingLines(MappedLines(map.ctl()->ledger));
}

}  // namespace

void write_ledger(const SegmentMap& map, const moetrace_ledger& ledger) {
  ledger_lines(map).write(to_line(ledger));
}

std::optional<moetrace_ledger> read_ledger(const SegmentMap& map) {
  const auto line = ledger_lines(map).read();
  if (!line) return std::nullopt;
  return from_line<moetrace_ledger>(*line);
}

}  // namespace moetrace
