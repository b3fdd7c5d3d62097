// The rings of a run's private session.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace moetrace::cli {

// The state of the session's rings.
struct RingsNow {
  std::size_t count = 0;
  // A producer of one of them is alive.
  bool producing = false;
  // Records that the collector has consumed.
  std::uint64_t consumed = 0;

  friend bool operator==(const RingsNow&, const RingsNow&) = default;
};
RingsNow look_at_rings(const std::string& directory, const std::string& session);

// A ring that its collector has not removed before its own end.
struct RingLeft {
  std::string path;
  std::string trace_id;
  // Why it can't be opened; then the rest is unknown.
  std::string unusable;
  // Its engine, if that is alive.
  std::optional<std::uint32_t> pid;
  // Rows that are in no file.
  std::uint64_t rows = 0;
};
std::vector<RingLeft> rings_left(const std::string& directory, const std::string& session);

// Removes the claim of a killed collector. The session is private, so no other process does.
void remove_dead_claim(const std::string& directory, const std::string& session);

}  // namespace moetrace::cli
