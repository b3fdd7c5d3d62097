// The folders in which a user's collectors keep their sockets and endpoint lists. Their names are
// foreseeable, so each is looked at before it is used: a folder of another user is a trap.
#pragma once

#include <sys/stat.h>

#include <string>
#include <vector>

namespace moetrace {

// In the order in which they are tried: /run/moetrace if it is there, $XDG_RUNTIME_DIR/moetrace, or
// without that variable moetrace-<uid> in $TMPDIR, then /tmp/moetrace-<uid>.
std::vector<std::string> runtime_folders();

// Makes the folder, for its owner alone, if it is missing. Why nothing can be put there, or "".
std::string prepare_runtime_folder(const std::string& folder);
// Why what is in the folder is not to be believed, or "". A folder that is missing is not either.
std::string distrust(const std::string& folder);

// Whether a file in such a folder has an owner that is to be believed: us or root, and in a
// set-group-id folder, as the service has it, any member of the group.
bool trusted_file(const std::string& folder, const struct stat& file);

}  // namespace moetrace
