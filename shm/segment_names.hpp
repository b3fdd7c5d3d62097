// The ring directory, and the names of the segments in it.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "shm/errors.hpp"

namespace moetrace {

// $MOETRACE_DIR, else /run/moetrace where it is writable, else /dev/shm.
std::string default_ring_directory();

// Prefix of both files while their segment is being built. It hides them from list_segments().
inline constexpr std::string_view kBuildingPrefix = ".building.";

struct SegmentName {
  std::string session;
  // The UUID as text.
  std::string trace_id;

  // moetrace.v1.<session>.<trace id>.ring
  std::string ring_file() const;
  // moetrace.v1.<session>.<trace id>.ctl
  std::string ctl_file() const;
};

// The segment that a file name belongs to. Nothing if the name does not end in `suffix` (".ring" or
// ".ctl") or is not a segment's.
std::optional<SegmentName> parse_segment_file(std::string_view file, std::string_view suffix);

// The finished segments of a session, sorted by name; segments that are still being built are left
// out. An unreadable directory is an error.
Result<std::vector<SegmentName>> list_segments(const std::string& directory,
                                               std::string_view session);

// The sessions with any file in the directory, sorted. Empty if the directory is unreadable.
std::vector<std::string> sessions_in(const std::string& directory);

// All file names in a directory, sorted. Nothing if it is unreadable; errno says why.
std::optional<std::vector<std::string>> file_names(const std::string& directory);

}  // namespace moetrace
