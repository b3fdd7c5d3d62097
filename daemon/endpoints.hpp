// Where a session's collector publishes, and how other programs find it.
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

// The file in which a collector lists its bound endpoints, one a line. The collector holds a lock
// on it: a list without a lock belongs to a killed collector.
class EndpointList {
 public:
  using Say = std::function<void(const std::string&)>;

  // `say` prints one line.
  EndpointList(std::string session, Say say) : session_(std::move(session)), say_(std::move(say)) {}
  // Removes the list, unless another collector has replaced it.
  ~EndpointList();
  EndpointList(const EndpointList&) = delete;
  EndpointList& operator=(const EndpointList&) = delete;

  // Writes the list to the first usable runtime folder and replaces any list of the session.
  // Without endpoints, only removes the list of a killed collector. If no folder is usable, `say`
  // gets a line, once.
  void write(const std::vector<std::string>& endpoints);
  // Whether other programs can still find the list.
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

// Removes the list and the default socket that a killed collector of the session has left in the
// runtime folders, if they are ours and no process uses them. Returns their names. `only_look`:
// removes nothing.
std::vector<std::string> remove_dead_endpoints(const std::string& session, bool only_look);
// Sessions that have a list or a default socket in the runtime folders.
std::vector<std::string> sessions_with_endpoints();

// Whether a process listens there. A killed collector leaves its socket file.
bool answers(const std::string& socket_file);
// Why no socket can be made there, or "". libzmq would remove any file of that name; only the
// socket of a killed collector may be removed.
std::string socket_taken(const std::string& socket_file);

}  // namespace moetrace
