// Where a session's collector publishes, and how others find out.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "shm/file_lock.hpp"

namespace moetrace {

// /run/moetrace where it can be written, else $XDG_RUNTIME_DIR/moetrace, else moetrace-<uid> in
// $TMPDIR or /tmp. Made if missing, for its owner alone.
std::string socket_directory();

// ipc://<socket directory>/<session>.pub
std::string default_endpoint(const std::string& session);

// The file in which a collector lists the endpoints that it is bound to, one a line. It holds a
// lock on it: the list that a killed collector leaves behind is nobody's.
class EndpointList {
 public:
  // Takes the place of any other list of the session; without endpoints, of one that is nobody's.
  // Where the file can't be written, nothing is listed.
  EndpointList(const std::string& session, std::vector<std::string> endpoints);
  // Removes the list, unless another collector has written its own, and the sockets' files: libzmq
  // leaves them where they are.
  ~EndpointList();
  EndpointList(const EndpointList&) = delete;
  EndpointList& operator=(const EndpointList&) = delete;

 private:
  std::string path_;
  std::vector<std::string> endpoints_;
  FileLock lock_;
};
// Empty if no collector of the session publishes.
std::vector<std::string> read_endpoints(const std::string& session);

// The file of an ipc:// endpoint; nothing for other transports and for abstract sockets.
std::optional<std::string> socket_file(const std::string& endpoint);
// Whether somebody listens there. A collector that was killed leaves its file behind.
bool answers(const std::string& socket_file);

}  // namespace moetrace
