#include "daemon/collector/resume.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

namespace moetrace {
namespace {

using Json = nlohmann::json;
constexpr std::size_t kBlock = 1 << 20;
// The longest `meta` line that is read. A real one has a few kB, far less than this even with the
// notes and names of 256 layers.
constexpr std::size_t kMostOpening = 1 << 20;

Error unreadable(const std::string& path, const std::string& why) {
  return {
      ErrorCode::kSystem,
      path + ": can't read it: " + why +
          "; nothing in it was changed, the ring keeps its rows, and the collector tries again"};
}

Result<std::uint64_t> size_of(int fd, const std::string& path) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return unreadable(path, std::strerror(errno));
  return static_cast<std::uint64_t>(status.st_size);
}

// Reads [offset, offset + bytes), which must lie below the file's size.
Result<std::string> read_at(int fd, const std::string& path, std::uint64_t offset,
                            std::size_t bytes) {
  std::string text(bytes, '\0');
  std::size_t have = 0;
  while (have < bytes) {
    const ssize_t got =
        ::pread(fd, text.data() + have, bytes - have, static_cast<off_t>(offset + have));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return unreadable(path, std::strerror(errno));
    if (got == 0) {
      return unreadable(path,
                        "it ends at byte " + std::to_string(offset + have) + ", before its size");
    }
    have += static_cast<std::size_t>(got);
  }
  return text;
}

// The last position of `needle` below `end`. Searches backwards block by block.
Result<std::optional<std::uint64_t>> find_last(int fd, const std::string& path, std::uint64_t end,
                                               std::string_view needle) {
  std::uint64_t stop = end;
  while (stop > 0) {
    const std::uint64_t start = stop > kBlock ? stop - kBlock : 0;
    // The needle may straddle two blocks.
    const std::uint64_t until = std::min<std::uint64_t>(stop + needle.size() - 1, end);
    const auto text = read_at(fd, path, start, static_cast<std::size_t>(until - start));
    if (!text) return text.error();
    if (const std::size_t at = text->rfind(needle); at != std::string::npos)
      return std::optional<std::uint64_t>(start + at);
    stop = start;
  }
  return std::optional<std::uint64_t>();
}

// Counts the lines after the last step line, or after the file's start. Refuses a line that no
// collector writes.
class Follower {
 public:
  // `rows_apart`: the rows are in a file of their own.
  explicit Follower(bool rows_apart) : rows_apart_(rows_apart) {}

  TracePosition position;

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
    if (failed != std::errc{} || end == line.data() + line.size() || *end != '}') return false;
    position.head.reset();
    return position.totals.deliver(seq);
  }

  // Throws Json::type_error unless it is an integer >= 0.
  static std::uint64_t number(const Json& json, const char* key) {
    return json.at(key).get_ref<const Json::number_unsigned_t&>();
  }

  bool follow_object(const Json& json) {
    const std::string& type = json.at("type").get_ref<const std::string&>();
    const bool starts = type == "base" || type == "part";
    if (starts) {
      position.head.emplace();
    } else if (position.head && type == "request" && json.at("event").is_null()) {
      position.head->insert(number(json, "request"));
    } else {
      position.head.reset();
    }
    if (json.contains("event") && !json.at("event").is_null() && !starts)
      position.last_event = number(json, "event");
    if (type == "step") {
      position.last_step = number(json, "step");
      position.last_time_ns = json.value("time_ns", std::int64_t{0});
      return follow_totals(json);
    }
    if (starts) return follow_start(json, type == "part");
    if (type == "rows") return follow_rows(json);
    if (type == "loss") return follow_loss(json);
    if (type == "torn") return follow_torn(json);
    if (type == "end") {
      position.ended = true;
      position.end_status = json.at("status").get<std::string>();
    }
    return true;
  }

  bool follow_start(const Json& json, bool is_part) {
    if (!follow_totals(json)) return false;
    position.base = position.totals;
    if (is_part) position.part = number(json, "part");
    if (const std::uint64_t event = number(json, "event"); event > 0)
      position.last_event = event - 1;
    return true;
  }

  bool follow_totals(const Json& json) {
    const auto totals = RunningTotals::from_line({.seq = number(json, "seq"),
                                                  .attempted = number(json, "attempted_total"),
                                                  .delivered = number(json, "delivered_total"),
                                                  .filtered = number(json, "filtered_total"),
                                                  .dropped = number(json, "dropped_total"),
                                                  .torn = number(json, "torn_total"),
                                                  .event_lost = number(json, "event_lost_total")});
    if (totals) position.totals = *totals;
    holes_ = 0;
    return totals.has_value();
  }

  bool follow_rows(const Json& json) {
    return position.totals.deliver_up_to(number(json, "seq"), number(json, "delivered_total"),
                                         number(json, "filtered_total"), std::exchange(holes_, 0));
  }

  bool follow_loss(const Json& json) {
    const std::uint64_t event_lost = number(json, "event_lost_total");
    const std::uint64_t dropped = number(json, "dropped_total");
    return dropped >= event_lost && position.totals.lose_events_up_to(event_lost) &&
           position.totals.drop_up_to(dropped - event_lost);
  }

  bool follow_torn(const Json& json) {
    const std::uint64_t count = number(json, "count");
    if (!json.at("first_seq").is_null()) {
      if (!rows_apart_) return position.totals.tear_slots(number(json, "first_seq"), count);
      // How many of the slots before it were filtered is in the next `rows` line.
      if (count > kMostRecords) return false;
      holes_ += count;
      return true;
    }
    if (count > position.totals.open()) return false;
    position.totals.tear_unclaimed(count);
    return true;
  }

  bool rows_apart_;
  // Torn slots that position.totals does not count yet.
  std::uint64_t holes_ = 0;
};

// Calls `take` with each whole line in [begin, end) and the offset of its first byte, until it
// returns false. The text before `end` ends with a newline.
template <class Take>
std::optional<Error> each_line(int fd, const std::string& path, std::uint64_t begin,
                               std::uint64_t end, const Take& take) {
  std::string carry;
  std::uint64_t line = begin;
  for (std::uint64_t offset = begin; offset < end;) {
    const auto block = read_at(
        fd, path, offset, static_cast<std::size_t>(std::min<std::uint64_t>(kBlock, end - offset)));
    if (!block) return block.error();
    offset += block->size();
    std::size_t start = 0;
    for (std::size_t stop; (stop = block->find('\n', start)) != std::string::npos;
         start = stop + 1) {
      carry.append(*block, start, stop - start);
      if (!take(std::string_view(carry), line)) return std::nullopt;
      line += carry.size() + 1;
      carry.clear();
    }
    carry.append(*block, start, std::string::npos);
  }
  return std::nullopt;
}

// The value of an integer key of a line that this collector wrote; nothing if it has none.
std::optional<std::uint64_t> integer_in(std::string_view line, std::string_view key) {
  const std::size_t at = line.rfind(key);
  if (at == std::string_view::npos) return std::nullopt;
  std::uint64_t value = 0;
  const char* first = line.data() + at + key.size();
  const auto [end, failed] = std::from_chars(first, line.data() + line.size(), value);
  if (failed != std::errc{}) return std::nullopt;
  return value;
}

constexpr std::string_view kRowsLine = "{\"type\":\"rows\"";

struct WrittenEnd {
  std::uint64_t end = 0;
  RowsWritten rows;
};
// Where the lines end whose rows are all in the rows file: before the first one, after the last
// `rows` line, that says it comes after a later row.
Result<WrittenEnd> find_written_end(int fd, const std::string& path, std::uint64_t end,
                                    const Opening& opening) {
  const auto rows = find_last(fd, path, end, "\n" + std::string(kRowsLine));
  if (!rows) return rows.error();
  WrittenEnd written{end, {}};
  std::uint64_t seq = 0;
  if (opening.start_line) seq = integer_in(*opening.start_line, ",\"seq\":").value_or(0);
  const auto take = [&](std::string_view line, std::uint64_t offset) {
    if (line.starts_with(kRowsLine)) {
      seq = integer_in(line, ",\"seq\":").value_or(0);
      written.rows = {integer_in(line, ",\"bytes\":").value_or(0),
                      integer_in(line, ",\"batches\":").value_or(0)};
      return true;
    }
    if (integer_in(line, ",\"at_seq\":").value_or(0) <= seq) return true;
    written.end = offset;
    return false;
  };
  if (auto failed = each_line(fd, path, *rows ? **rows + 1 : 0, end, take)) return *failed;
  return written;
}

}  // namespace

Result<std::optional<Opening>> read_opening(int fd, const std::string& path) {
  const auto size = size_of(fd, path);
  if (!size) return size.error();
  const auto text =
      read_at(fd, path, 0, static_cast<std::size_t>(std::min<std::uint64_t>(*size, kMostOpening)));
  if (!text) return text.error();
  const std::size_t end = text->find('\n');
  if (end == std::string::npos) return std::optional<Opening>();
  const Json meta = Json::parse(text->substr(0, end), nullptr, false);
  const auto is_text = [&](const char* key) {
    return meta.contains(key) && meta.at(key).is_string();
  };
  if (!meta.is_object() || !is_text("type") || meta.at("type") != "meta" || !is_text("trace_id"))
    return std::optional<Opening>();
  Opening opening;
  opening.meta = text->substr(0, end + 1);
  opening.trace_id = meta.at("trace_id");
  opening.rows = rows_key(opening.meta);
  const std::size_t stop = text->find('\n', end + 1);
  if (stop == std::string::npos && *size == text->size()) return std::optional<Opening>();
  if (stop == std::string::npos) return std::optional(opening);
  std::string second = text->substr(end + 1, stop - end - 1);
  const bool is_part = second.starts_with("{\"type\":\"part\"");
  if (!is_part && !second.starts_with("{\"type\":\"base\"")) return std::optional(opening);
  if (is_part) {
    const Json part = Json::parse(second, nullptr, false);
    if (part.is_object() && part.contains("part") && part.at("part").is_number_unsigned())
      opening.part = part.at("part");
  }
  opening.start_line = std::move(second);
  return std::optional(opening);
}

Result<bool> is_unbegun(int fd, const std::string& path, std::string_view meta) {
  const auto size = size_of(fd, path);
  if (!size) return size.error();
  if (*size > kMostOpening) return false;
  const auto have = read_at(fd, path, 0, static_cast<std::size_t>(*size));
  if (!have) return have.error();
  if (have->size() <= meta.size()) return meta.starts_with(*have);
  return have->starts_with(meta) && have->find('\n', meta.size()) == std::string::npos;
}

Result<bool> begins_with(int fd, const std::string& path, std::string_view text) {
  const auto size = size_of(fd, path);
  if (!size) return size.error();
  if (*size < text.size()) return false;
  const auto have = read_at(fd, path, 0, text.size());
  if (!have) return have.error();
  return *have == text;
}

Result<bool> is_begin_of(int fd, const std::string& path, std::string_view text) {
  const auto size = size_of(fd, path);
  if (!size) return size.error();
  if (*size > text.size()) return false;
  return begins_with(fd, path, text.substr(0, *size));
}

Result<ResumePoint> find_resume_point(int fd, const std::string& path, const Opening& opening) {
  const auto size = size_of(fd, path);
  if (!size) return size.error();
  const auto last_newline = find_last(fd, path, *size, "\n");
  if (!last_newline) return last_newline.error();
  // At least the end of `meta`: read_opening() has found that line.
  WrittenEnd written{last_newline->value_or(0) + 1, {}};
  if (opening.rows) {
    auto found = find_written_end(fd, path, written.end, opening);
    if (!found) return found.error();
    written = *found;
  }
  const std::uint64_t end = written.end;
  const auto step = find_last(fd, path, end, "\n{\"type\":\"step\"");
  if (!step) return step.error();

  const auto bad = [&](std::uint64_t near) {
    return Error{ErrorCode::kBadFile,
                 path + ": has a line that no collector wrote, near byte " + std::to_string(near)};
  };
  Follower follower(opening.rows.has_value());
  // The last lines do not say where this file starts.
  if (*step && opening.start_line && !follower.follow(*opening.start_line)) return bad(0);
  std::optional<std::uint64_t> wrong;
  auto failed = each_line(fd, path, *step ? **step + 1 : 0, end,
                          [&](std::string_view line, std::uint64_t offset) {
                            if (follower.follow(line)) return true;
                            wrong = offset;
                            return false;
                          });
  if (failed) return *failed;
  if (wrong) return bad(*wrong);
  const TracePosition& position = follower.position;
  if (!position.base.possible() || !position.totals.possible() ||
      !position.totals.follow(position.base))
    return bad(end);
  follower.position.rows = written.rows;
  return ResumePoint{std::move(follower.position), end};
}

}  // namespace moetrace
