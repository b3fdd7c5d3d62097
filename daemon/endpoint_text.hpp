// Checks the values of --publish.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace moetrace {

// The longest path of a socket in bytes: sockaddr_un, without the zero at the end.
constexpr std::size_t kMostSocketPath = 107;

// Why a collector can't publish on these endpoints, as "publish X: why; what to try", or "".
// {"none"} and an empty list are valid.
std::string publish_error(const std::vector<std::string>& endpoints);

// The file of an ipc:// endpoint; nothing for other transports and for abstract sockets.
std::optional<std::string> socket_file(const std::string& endpoint);

}  // namespace moetrace
