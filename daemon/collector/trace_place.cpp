#include "daemon/collector/trace_place.hpp"

#include <algorithm>
#include <utility>
#include <vector>

namespace moetrace {
namespace {

struct Part {
  std::uint64_t part = 0;
  // The number in its name.
  std::uint64_t name = 0;

  friend bool operator<(const Part& a, const Part& b) {
    return std::pair(a.part, a.name) < std::pair(b.part, b.name);
  }
};

// Ascending by part; of equal parts, ascending by name.
Result<std::vector<Part>> find_parts(const OutputNames& names, const std::string& trace_id) {
  const auto taken = names.taken();
  if (!taken) return taken.error();
  std::vector<Part> parts;
  for (const std::uint64_t number : *taken) {
    const auto opening =
        TraceFile::look({names.name(number), names.chosen_by_user(number)}, trace_id);
    if (!opening) return opening.error();
    if (*opening) parts.push_back({(*opening)->part, number});
  }
  std::sort(parts.begin(), parts.end());
  return parts;
}

Result<TracePlace> new_part(const OutputNames& names, const PartStart& start,
                            std::optional<TracePosition> position, std::string warning) {
  auto file = next_file(names, start);
  if (!file) return file.error();
  if (!warning.empty()) warning += "; the trace continues in " + file->path();
  return TracePlace{std::move(*file), start.part, std::move(position), std::move(warning)};
}

// Filtered rows at the end have no line, so they may be missing.
bool lost_its_end(const TracePosition& position, const Consumed& consumed) {
  const std::uint64_t left_out =
      consumed.filtered - std::min(consumed.filtered, position.totals.filtered());
  const std::uint64_t next = position.totals.next_seq();
  return next < consumed.rows && left_out < consumed.rows - next;
}

}  // namespace

Result<std::vector<std::string>> trace_files(const OutputNames& names,
                                             const std::string& trace_id) {
  std::vector<std::string> files;
  const auto parts = find_parts(names, trace_id);
  if (!parts) return parts.error();
  for (const Part& part : *parts) files.push_back(names.name(part.name));
  return files;
}

Result<TraceFile> next_file(const OutputNames& names, const PartStart& start) {
  const auto taken = names.taken();
  if (!taken) return taken.error();
  // Other programs may take names meanwhile; a thousand further names are more than enough.
  const std::uint64_t last = std::max(taken->empty() ? 1 : taken->back(), start.part) + 1000;
  for (std::uint64_t number = start.named_by_number ? start.part : 1;; ++number) {
    auto file = TraceFile::take_new({names.name(number), names.chosen_by_user(number)}, start);
    if (file || file.error().code != ErrorCode::kInUse || number >= last) return file;
  }
}

Result<TracePlace> place_trace(const OutputNames& names, PartStart start,
                               const Consumed& consumed) {
  const auto parts = find_parts(names, start.trace_id);
  if (!parts) return parts.error();
  start.part = 1;
  if (parts->empty()) return new_part(names, start, std::nullopt, "");
  const Part last = parts->back();
  start.part = last.part + 1;
  auto file =
      TraceFile::go_on({names.name(last.name), names.chosen_by_user(last.name)}, start.trace_id);
  if (!file && file.error().code == ErrorCode::kBadFile)
    return new_part(names, start, std::nullopt, file.error().message);
  if (!file) return file.error();
  TracePosition position = *file->position();
  // A bad segment ends its trace, whatever it says now.
  if (position.end_status == kBadSegmentEnd)
    return TracePlace{std::move(*file), position.part, std::move(position), ""};
  if (lost_its_end(position, consumed)) {
    return new_part(names, start, std::nullopt,
                    file->path() +
                        ": ends before rows that were already written to it, so it was "
                        "cut");
  }
  if (position.continued()) return new_part(names, start, std::move(position), "");
  return TracePlace{std::move(*file), position.part, std::move(position), ""};
}

}  // namespace moetrace
