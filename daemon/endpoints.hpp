// Where a session's collector publishes, and how others find out.
#pragma once

#include <string>
#include <vector>

namespace moetrace {

// /run/moetrace where it can be written, else $XDG_RUNTIME_DIR/moetrace, else moetrace-<uid> in
// $TMPDIR or /tmp. Made if missing, for its owner alone.
std::string socket_directory();

// ipc://<socket directory>/<session>.pub
std::string default_endpoint(const std::string& session);

// The file in which a collector lists the endpoints that it is bound to, one a line.
void write_endpoints(const std::string& session, const std::vector<std::string>& endpoints);
void remove_endpoints(const std::string& session);
// Empty if no collector of the session publishes.
std::vector<std::string> read_endpoints(const std::string& session);

}  // namespace moetrace
