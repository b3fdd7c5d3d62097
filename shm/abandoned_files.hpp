// What a producer leaves in the ring directory if it dies while it builds a segment.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace moetrace {

// Unlinks the half-built files of dead producers. Safe at any time: a living producer holds a lock.
// Returns the paths of the unlinked files. With `only_look`, unlinks nothing and returns the paths
// that it would unlink.
std::vector<std::string> remove_abandoned(const std::string& directory, std::string_view session,
                                          bool only_look = false);

}  // namespace moetrace
