// Names, listing and cleaning of segments in a ring directory.
#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <set>

#include "shm/segment.hpp"

namespace moetrace {
namespace {

constexpr std::string_view kPrefix = "moetrace.v1.";

std::optional<std::vector<std::string>> file_names(const std::string& directory) {
  DIR* handle = ::opendir(directory.c_str());
  if (handle == nullptr) return std::nullopt;
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(handle)) names.emplace_back(entry->d_name);
  ::closedir(handle);
  std::sort(names.begin(), names.end());
  return names;
}

// The segment that a file name belongs to, if it ends in `suffix`.
std::optional<SegmentName> parse(std::string_view file, std::string_view suffix) {
  if (!file.starts_with(kPrefix)) return std::nullopt;
  file.remove_prefix(kPrefix.size());
  if (!file.ends_with(suffix))
    return std::nullopt;  // of the rest: in "moetrace.v1.ring" the two would overlap
  file.remove_suffix(suffix.size());
  const std::size_t dot = file.find('.');
  if (dot == std::string_view::npos) return std::nullopt;
  SegmentName name{std::string(file.substr(0, dot)), std::string(file.substr(dot + 1))};
  if (!is_session_name(name.session) || !is_trace_id(name.trace_id)) return std::nullopt;
  return name;
}

bool exists(const std::string& path) {
  return ::access(path.c_str(), F_OK) == 0;
}

// What is to be removed, and how.
struct Removal {
  bool only_look;
  std::vector<std::string> files;

  void add(const std::string& path) {
    if (only_look ? exists(path) : ::unlink(path.c_str()) == 0) files.push_back(path);
  }
};

void remove_if_abandoned(const std::string& ctl_path, const std::string& hidden_ring,
                         const std::string& final_ring, Removal& removal) {
  const auto lock = FileLock::acquire(ctl_path, MOETRACE_LOCK_PRODUCER);
  // With the lock in our hand no producer is building this one. But one may have finished it, and
  // ended, since we looked: then it is a whole segment with something to drain.
  if (!lock || exists(final_ring)) return;
  removal.add(hidden_ring);
  removal.add(ctl_path);
}

}  // namespace

std::string default_ring_directory() {
  if (const char* set = std::getenv("MOETRACE_DIR"); set != nullptr && *set != '\0') return set;
  if (::access("/run/moetrace", W_OK | X_OK) == 0) return "/run/moetrace";
  return "/dev/shm";
}

std::string SegmentName::ring_file() const {
  return std::string(kPrefix) + session + "." + trace_id + ".ring";
}
std::string SegmentName::ctl_file() const {
  return std::string(kPrefix) + session + "." + trace_id + ".ctl";
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
    if (auto name = parse(file, ".ring"); name && name->session == session)
      segments.push_back(std::move(*name));
  }
  return segments;
}

std::vector<std::string> remove_abandoned(const std::string& directory, std::string_view session,
                                          bool only_look) {
  const auto names = file_names(directory);
  if (!names) return {};
  Removal removal{only_look, {}};
  const std::string root = directory + "/";
  for (const std::string& file : *names) {
    const bool building = file.starts_with(kBuildingPrefix);
    const std::string_view plain =
        building ? std::string_view(file).substr(kBuildingPrefix.size()) : file;
    if (const auto name = parse(plain, ".ctl"); name && name->session == session) {
      remove_if_abandoned(root + file, root + std::string(kBuildingPrefix) + name->ring_file(),
                          root + name->ring_file(), removal);
    } else if (const auto ring = parse(plain, ".ring");
               building && ring && ring->session == session) {
      const std::string hidden_ctl = root + std::string(kBuildingPrefix) + ring->ctl_file();
      const std::string ctl = root + ring->ctl_file();
      // Its .ctl is made first and unlinked last, so without one nobody is at work on it.
      if (!exists(hidden_ctl) && !exists(ctl)) removal.add(root + file);
    }
  }
  return removal.files;
}

// What stands between the second and the third dot of a name.
std::vector<std::string> sessions_in(const std::string& directory) {
  std::set<std::string> sessions;
  for (const std::string& file : file_names(directory).value_or(std::vector<std::string>())) {
    std::string_view name = file;
    if (name.starts_with(kBuildingPrefix)) name.remove_prefix(kBuildingPrefix.size());
    if (!name.starts_with(kPrefix)) continue;
    name.remove_prefix(kPrefix.size());
    name = name.substr(0, name.find('.'));
    if (is_session_name(name)) sessions.emplace(name);
  }
  return {sessions.begin(), sessions.end()};
}

SegmentSizes sizes_for(double ring_mb, std::uint32_t top_k) {
  const double slots = std::ceil(ring_mb * 1024 * 1024 / RouteLayout::of_top_k(top_k).stride());
  const double limited = std::clamp(slots, 64.0, static_cast<double>(MOETRACE_MAX_ROUTE_SLOTS));
  return sizes_of_slots(std::bit_ceil(static_cast<std::uint64_t>(limited)));
}

SegmentSizes sizes_of_slots(std::uint64_t route_slots) {
  SegmentSizes sizes;
  sizes.route_slots = route_slots;
  // A decode step of one request takes two event slots for (layers) route slots; one eighth keeps
  // up with 16 layers and more, and below that the step rate is what it is.
  sizes.event_slots = std::max<std::uint64_t>(sizes.route_slots / 8, 4096);
  sizes.request_slots = 4096;
  return sizes;
}

}  // namespace moetrace
