#include "daemon/dead_files.hpp"

#include <algorithm>
#include <cctype>

#include "daemon/endpoints.hpp"
#include "shm/segment_names.hpp"
#include "shm/session_claim.hpp"

namespace moetrace {
namespace {

// run-<16 hexadecimal digits>: a session of `moetrace run`.
bool is_run_session(const std::string& session) {
  constexpr std::string_view kPrefix = "run-";
  return session.starts_with(kPrefix) && session.size() == kPrefix.size() + 16 &&
         std::all_of(session.begin() + kPrefix.size(), session.end(),
                     [](unsigned char c) { return std::isxdigit(c) != 0; });
}

}  // namespace

std::vector<std::string> sessions_with_files(const std::string& directory) {
  std::vector<std::string> sessions = sessions_in(directory);
  const std::vector<std::string> others = sessions_with_endpoints();
  sessions.insert(sessions.end(), others.begin(), others.end());
  std::sort(sessions.begin(), sessions.end());
  sessions.erase(std::unique(sessions.begin(), sessions.end()), sessions.end());
  return sessions;
}

std::vector<std::string> remove_dead_files(const std::string& directory, const std::string& session,
                                           bool only_look) {
  // A collector that has just claimed the session may not listen on its socket yet.
  if (SessionClaim::held(directory, session)) return {};
  std::vector<std::string> dead = SessionClaim::remove_dead(directory, session, only_look);
  const std::vector<std::string> endpoints = remove_dead_endpoints(session, only_look);
  dead.insert(dead.end(), endpoints.begin(), endpoints.end());
  return dead;
}

void remove_dead_run_files(const std::string& directory) {
  for (const std::string& session : sessions_with_files(directory)) {
    if (is_run_session(session)) remove_dead_files(directory, session);
  }
}

}  // namespace moetrace
