#include "daemon/cli/missed_rows.hpp"

namespace moetrace::cli {

MissedRows::Missed MissedRows::take(const std::string& topic, const MessageHead& head) {
  const bool rows = topic == "route";
  const std::uint64_t before = head.delivered >= head.count ? head.delivered - head.count : 0;
  const auto [found, is_first] = streams_.try_emplace({topic, head.trace_id}, Stream{});
  Stream& stream = found->second;
  Missed missed;
  if (!is_first) {
    const bool same_collector = head.generation == stream.generation;
    const std::uint64_t expected = same_collector ? stream.next : 0;
    missed.messages = head.number > expected ? head.number - expected : 0;
    // Two consecutive messages of one collector miss nothing.
    if (rows && (!same_collector || missed.messages > 0) && before > stream.delivered) {
      missed.rows = before - stream.delivered;
    }
  }
  stream = {head.generation, head.number + 1, head.delivered};
  total_.messages += missed.messages;
  total_.rows += missed.rows;
  return missed;
}

}  // namespace moetrace::cli
