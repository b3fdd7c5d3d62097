#include "daemon/collector/resume.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

namespace moetrace {
namespace {

using Json = nlohmann::json;
constexpr std::size_t kBlock = 1 << 20;

// Reads [offset, offset + bytes) as far as the file goes.
std::string read_at(int fd, std::uint64_t offset, std::size_t bytes) {
  std::string text(bytes, '\0');
  std::size_t have = 0;
  while (have < bytes) {
    const ssize_t got =
        ::pread(fd, text.data() + have, bytes - have, static_cast<off_t>(offset + have));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    have += static_cast<std::size_t>(got);
  }
  text.resize(have);
  return text;
}

// The last position below `end` where `needle` stands, searching backwards block by block.
std::optional<std::uint64_t> find_last(int fd, std::uint64_t end, std::string_view needle) {
  std::uint64_t stop = end;
  while (stop > 0) {
    const std::uint64_t start = stop > kBlock ? stop - kBlock : 0;
    // A needle may straddle the blocks' border.
    const std::uint64_t until = std::min<std::uint64_t>(stop + needle.size() - 1, end);
    const std::string text = read_at(fd, start, static_cast<std::size_t>(until - start));
    if (const std::size_t at = text.rfind(needle); at != std::string::npos) return start + at;
    stop = start;
  }
  return std::nullopt;
}

// Follows the lines from the last step line (or from the file's start) and keeps the account.
class Account {
 public:
  TracePosition position;

  // False if the line is not one that the collector writes.
  bool follow(std::string_view line) {
    constexpr std::string_view kRoute = "{\"type\":\"route\"";
    if (line.starts_with(kRoute)) return follow_route(line);
    const Json json = Json::parse(line, nullptr, false);
    if (!json.is_object()) return false;
    try {
      return follow_object(json);
    } catch (const Json::exception&) {
      return false;
    }
  }

 private:
  bool follow_route(std::string_view line) {
    constexpr std::string_view kSeq = ",\"seq\":";
    const std::size_t at = line.rfind(kSeq);
    if (at == std::string_view::npos) return false;
    std::uint64_t seq = 0;
    const char* first = line.data() + at + kSeq.size();
    const auto [end, failed] = std::from_chars(first, line.data() + line.size(), seq);
    if (failed != std::errc{} || *end != '}' || seq < position.next_seq) return false;
    // Slots that were left out on purpose leave a gap; holes have their torn line.
    position.totals.filtered += seq - position.next_seq;
    position.next_seq = seq + 1;
    ++position.totals.delivered;
    return true;
  }

  bool follow_object(const Json& json) {
    const std::string& type = json.at("type").get_ref<const std::string&>();
    if (json.contains("event") && !json.at("event").is_null() && type != "base")
      position.last_event = json.at("event");
    Totals& totals = position.totals;
    if (type == "step" || type == "base") {
      read_totals(json);
      position.next_seq = json.at("seq");
      if (!json.at("step").is_null()) position.last_step = json.at("step");
      const std::uint64_t torn = json.at("torn_total");
      totals.holes = position.next_seq - totals.delivered - totals.filtered;
      totals.unclaimed = torn - totals.holes;
      if (type == "base") {
        position.base = totals;
        if (const std::uint64_t event = json.at("event"); event > 0)
          position.last_event = event - 1;
      }
    } else if (type == "loss") {
      const std::uint64_t event_lost = json.at("event_lost_total");
      totals.attempted += event_lost - totals.event_lost;
      totals.event_lost = event_lost;
      totals.hook_dropped = json.at("dropped_total").get<std::uint64_t>() - event_lost;
    } else if (type == "torn") {
      const std::uint64_t count = json.at("count");
      if (json.at("first_seq").is_null()) {
        totals.unclaimed += count;
      } else {
        const std::uint64_t first = json.at("first_seq");
        totals.filtered += first - position.next_seq;
        totals.holes += count;
        position.next_seq = first + count;
      }
    } else if (type == "end") {
      position.ended = true;
      position.status = json.value("status", "");
    }
    return true;
  }

  void read_totals(const Json& json) {
    Totals& totals = position.totals;
    totals.attempted = json.at("attempted_total");
    totals.delivered = json.at("delivered_total");
    totals.filtered = json.at("filtered_total");
    totals.event_lost = json.at("event_lost_total");
    totals.hook_dropped = json.at("dropped_total").get<std::uint64_t>() - totals.event_lost;
  }
};

// The first lines that give where the file starts: meta, and base if it is there.
struct Opening {
  std::string trace_id;
  std::optional<std::string> base_line;
};

std::optional<Opening> read_opening(int fd) {
  const std::string text = read_at(fd, 0, kBlock);
  const std::size_t end = text.find('\n');
  if (end == std::string::npos) return std::nullopt;
  const Json meta = Json::parse(text.substr(0, end), nullptr, false);
  if (!meta.is_object() || meta.value("type", "") != "meta" || !meta.contains("trace_id") ||
      !meta.at("trace_id").is_string()) {
    return std::nullopt;
  }
  Opening opening{meta.at("trace_id"), std::nullopt};
  constexpr std::string_view kBase = "{\"type\":\"base\"";
  if (text.compare(end + 1, kBase.size(), kBase) == 0) {
    if (const std::size_t stop = text.find('\n', end + 1); stop != std::string::npos) {
      opening.base_line = text.substr(end + 1, stop - end - 1);
    }
  }
  return opening;
}

}  // namespace

Result<std::optional<ResumePoint>> find_resume_point(int fd, const std::string& path,
                                                     const std::string& trace_id) {
  struct stat status {};
  if (::fstat(fd, &status) != 0)
    return Error{ErrorCode::kSystem, path + ": can't read its size; check the file system"};
  const auto size = static_cast<std::uint64_t>(status.st_size);
  const auto last_newline = find_last(fd, size, "\n");
  const auto opening = read_opening(fd);
  if (!last_newline) {
    // Nothing, or the beginning of a first line that a dying collector could not finish; anything
    // else is somebody's file.
    constexpr std::string_view kMeta = "{\"type\":\"meta\"";
    if (kMeta.starts_with(read_at(fd, 0, kMeta.size()))) return std::optional<ResumePoint>();
  }
  if (!opening || opening->trace_id != trace_id) {
    return Error{ErrorCode::kInUse,
                 path + ": holds something else than this trace; give another output"};
  }

  const std::uint64_t end = *last_newline + 1;
  constexpr std::string_view kStep = "\n{\"type\":\"step\"";
  const auto step = find_last(fd, end, kStep);
  Account account;
  if (step && opening->base_line) {
    // Where this file starts is not in its last lines.
    account.follow(*opening->base_line);
  }
  std::uint64_t offset = step ? *step + 1 : 0;
  std::string carry;
  while (offset < end) {
    const std::string block = read_at(
        fd, offset, static_cast<std::size_t>(std::min<std::uint64_t>(kBlock, end - offset)));
    if (block.empty()) break;
    offset += block.size();
    std::size_t start = 0;
    for (std::size_t stop; (stop = block.find('\n', start)) != std::string::npos;
         start = stop + 1) {
      carry.append(block, start, stop - start);
      if (!account.follow(carry)) {
        return Error{ErrorCode::kInUse, path + ": has a line that no collector wrote, near byte " +
                                            std::to_string(offset) +
                                            "; move the file away and start again"};
      }
      carry.clear();
    }
    carry.append(block, start, std::string::npos);
  }
  return std::optional<ResumePoint>(ResumePoint{account.position, end});
}

}  // namespace moetrace
