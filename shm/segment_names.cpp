#include "shm/segment_names.hpp"

#include <dirent.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <set>

#include "common/names.hpp"

namespace moetrace {
namespace {

constexpr std::string_view kPrefix = "moetrace.v1.";

std::string base_name(const SegmentName& name) {
  return std::string(kPrefix) + name.session + "." + name.trace_id;
}

}  // namespace

std::string default_ring_directory() {
  if (const char* set = std::getenv("MOETRACE_DIR"); set != nullptr && *set != '\0') return set;
  if (::access("/run/moetrace", W_OK | X_OK) == 0) return "/run/moetrace";
  return "/dev/shm";
}

std::string SegmentName::ring_file() const {
  return base_name(*this) + ".ring";
}
std::string SegmentName::ctl_file() const {
  return base_name(*this) + ".ctl";
}

std::optional<SegmentName> parse_segment_file(std::string_view file, std::string_view suffix) {
  // Remove the prefix before looking for the suffix: in "moetrace.v1.ring" the two share a dot.
  if (!file.starts_with(kPrefix)) return std::nullopt;
  file.remove_prefix(kPrefix.size());
  if (!file.ends_with(suffix)) return std::nullopt;
  file.remove_suffix(suffix.size());
  const std::size_t dot = file.find('.');
  if (dot == std::string_view::npos) return std::nullopt;
  SegmentName name{std::string(file.substr(0, dot)), std::string(file.substr(dot + 1))};
  if (!is_session_name(name.session) || !is_trace_id(name.trace_id)) return std::nullopt;
  return name;
}

std::optional<std::vector<std::string>> file_names(const std::string& directory) {
  DIR* handle = ::opendir(directory.c_str());
  if (handle == nullptr) return std::nullopt;
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(handle)) names.emplace_back(entry->d_name);
  ::closedir(handle);
  std::sort(names.begin(), names.end());
  return names;
}

Result<std::vector<SegmentName>> list_segments(const std::string& directory,
                                               std::string_view session) {
  const auto names = file_names(directory);
  if (!names) {
    const int failed = errno;
    return Error{ErrorCode::kNoDirectory,
                 directory + ": can't read the ring directory: " + std::strerror(failed) +
                     (failed == ENOENT ? "; create it or set MOETRACE_DIR"
                      : failed == EMFILE || failed == ENFILE
                          ? "; raise the limit of open files (ulimit -n)"
                          : "; set MOETRACE_DIR to a directory that you may read")};
  }
  std::vector<SegmentName> segments;
  for (const std::string& file : *names) {
    if (auto name = parse_segment_file(file, ".ring"); name && name->session == session)
      segments.push_back(std::move(*name));
  }
  return segments;
}

std::vector<std::string> sessions_in(const std::string& directory) {
  std::set<std::string> sessions;
  for (const std::string& file : file_names(directory).value_or(std::vector<std::string>())) {
    // The session stands between the prefix and the next dot, also in a collector's claim.
    std::string_view name = file;
    if (name.starts_with(kBuildingPrefix)) name.remove_prefix(kBuildingPrefix.size());
    if (!name.starts_with(kPrefix)) continue;
    name.remove_prefix(kPrefix.size());
    name = name.substr(0, name.find('.'));
    if (is_session_name(name)) sessions.emplace(name);
  }
  return {sessions.begin(), sessions.end()};
}

}  // namespace moetrace
