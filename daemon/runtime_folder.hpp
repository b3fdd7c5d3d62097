// The folders in which a user's collectors keep their sockets and endpoint lists. Another user can
// guess their names and make them first, so check each folder before use.
#pragma once

#include <sys/stat.h>

#include <string>
#include <vector>

namespace moetrace {

// In this order: /run/moetrace if it exists; $XDG_RUNTIME_DIR/moetrace, or without that variable
// $TMPDIR/moetrace-<uid>; /tmp/moetrace-<uid>.
std::vector<std::string> runtime_folders();

// Makes the folder, for us alone, if it is missing. Returns why no file can be made there, or "".
std::string prepare_runtime_folder(const std::string& folder);
// Why the folder's files can't be trusted, or "". A missing folder can't be, either.
std::string distrust(const std::string& folder);

// Whether a file in such a folder has a trusted owner: us, root, or, in the service's set-group-id
// folder, any member of the group.
bool trusted_file(const std::string& folder, const struct stat& file);

}  // namespace moetrace
