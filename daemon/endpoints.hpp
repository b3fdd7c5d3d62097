// Where a session's collector publishes, and how others find out.
#pragma once

#include <optional>
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
// Removes it, unless another collector has written its own, and the sockets' files: libzmq leaves
// them where they are.
void remove_endpoints(const std::string& session, const std::vector<std::string>& endpoints);
// Empty if no collector of the session publishes.
std::vector<std::string> read_endpoints(const std::string& session);

// The file of an ipc:// endpoint; nothing for other transports and for abstract sockets.
std::optional<std::string> socket_file(const std::string& endpoint);
// Whether somebody listens there. A collector that was killed leaves its file behind.
bool answers(const std::string& socket_file);

}  // namespace moetrace
