// Where a session's collector publishes, and how others find out.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "daemon/endpoint_text.hpp"
#include "shm/file_lock.hpp"

namespace moetrace {

// <folder>/<session>.pub
std::string default_socket(const std::string& folder, const std::string& session);

// The file in which a collector lists the endpoints that it is bound to, one a line. It holds a
// lock on it: the list that a killed collector leaves behind is nobody's.
class EndpointList {
 public:
  using Say = std::function<void(const std::string&)>;

  // `say` prints one line.
  EndpointList(std::string session, Say say) : session_(std::move(session)), say_(std::move(say)) {}
  // Removes the list, unless another collector has written its own.
  ~EndpointList();
  EndpointList(const EndpointList&) = delete;
  EndpointList& operator=(const EndpointList&) = delete;

  // Lists these, in the first runtime folder that can be used. Takes the place of any other list of
  // the session; without endpoints, of one that is nobody's. Where no folder can be used, `say`
  // gets a line, once.
  void write(const std::vector<std::string>& endpoints);
  // Whether others can still find what was written.
  bool linked() const { return !lock_.held() || lock_.linked(); }

 private:
  void remove();
  std::string write_file(const std::string& folder, const std::vector<std::string>& endpoints);

  std::string session_;
  Say say_;
  std::string path_;
  FileLock lock_;
  bool said_ = false;
};

// Empty if no collector of the session publishes.
std::vector<std::string> read_endpoints(const std::string& session);

// Removes the list and the default socket of the session that a killed collector has left in the
// runtime folders: what is ours, and what no process has. The names of what was removed, or with
// `only_look` would be.
std::vector<std::string> remove_dead_endpoints(const std::string& session, bool only_look);
// Sessions that have a list or a default socket in the runtime folders.
std::vector<std::string> sessions_with_endpoints();

// Whether somebody listens there. A collector that was killed leaves its file behind.
bool answers(const std::string& socket_file);
// Why no socket can be made there, or "". libzmq unlinks whatever has the name; only the socket
// that a killed collector left may be unlinked.
std::string socket_taken(const std::string& socket_file);

}  // namespace moetrace
