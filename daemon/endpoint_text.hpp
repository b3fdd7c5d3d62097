// What may stand behind --publish.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace moetrace {

// A socket's path has at most so many bytes (sockaddr_un, with a zero at the end).
constexpr std::size_t kMostSocketPath = 107;

// Why these can't be the endpoints of a collector, as "publish X: why; what to try", or "". `none`,
// alone, is one; an empty list means the default.
std::string publish_error(const std::vector<std::string>& endpoints);

// The file of an ipc:// endpoint; nothing for other transports and for abstract sockets.
std::optional<std::string> socket_file(const std::string& endpoint);

}  // namespace moetrace
