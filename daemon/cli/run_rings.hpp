// The rings of a run's private session.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace moetrace::cli {

// What a look at the session's rings finds.
struct RingsNow {
  std::size_t count = 0;
  bool producing = false;      // a producer of one of them lives
  std::uint64_t consumed = 0;  // records that the collector has taken out of them

  friend bool operator==(const RingsNow&, const RingsNow&) = default;
};
RingsNow look_at_rings(const std::string& session);

// A ring that is still there after its collector has ended.
struct RingLeft {
  std::string path;
  std::string trace_id;
  std::string unusable;              // why it can't be opened; the rest is unknown then
  std::optional<std::uint32_t> pid;  // of its engine, if that lives
  std::uint64_t rows = 0;            // that are in no file
};
std::vector<RingLeft> rings_left(const std::string& session);

// Removes the claim that a killed collector has left: the session is private, no other will.
void remove_dead_claim(const std::string& session);

}  // namespace moetrace::cli
