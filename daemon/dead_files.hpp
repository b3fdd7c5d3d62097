// The files of killed collectors: claims in the ring directory, sockets and endpoint lists in the
// runtime folders. Not rings: those hold rows.
#pragma once

#include <string>
#include <vector>

namespace moetrace {

// Sessions that have any file in the ring directory or in a runtime folder.
std::vector<std::string> sessions_with_files(const std::string& directory);

// Removes such files of a session, if they are ours and no collector serves the session. Returns
// their names. `only_look`: removes nothing.
std::vector<std::string> remove_dead_files(const std::string& directory, const std::string& session,
                                           bool only_look = false);

// The same for the private sessions of every `moetrace run`. Call it when a collector starts.
void remove_dead_run_files(const std::string& directory);

}  // namespace moetrace
