// What killed collectors leave: claims in the ring directory, sockets and endpoint lists in the
// runtime folders. Rings are not among them: they hold rows.
#pragma once

#include <string>
#include <vector>

namespace moetrace {

// Sessions that have any file in the ring directory or in a runtime folder.
std::vector<std::string> sessions_with_files(const std::string& directory);

// Removes such files of a session, if they are ours and no collector serves it. Their names; with
// `only_look` those that would be removed.
std::vector<std::string> remove_dead_files(const std::string& directory, const std::string& session,
                                           bool only_look = false);

// The same for the sessions of all `moetrace run`, which no other collector ever takes over. To be
// called when a collector or a run starts.
void remove_dead_run_files(const std::string& directory);

}  // namespace moetrace
