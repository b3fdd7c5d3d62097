#include "daemon/endpoint_text.hpp"

#include <algorithm>
#include <charconv>
#include <string_view>

namespace moetrace {
namespace {

constexpr const char* kExamples = "ipc:///tmp/moe.pub or tcp://127.0.0.1:5556";

std::string wrong_port(std::string_view port) {
  if (port == "*") return "";
  unsigned number = 0;
  const char* const end = port.data() + port.size();
  const auto [stop, failed] = std::from_chars(port.data(), end, number);
  if (failed == std::errc{} && stop == end && number <= 65535) return "";
  return "invalid port '" + std::string(port) + "': expected * or a number from 0 to 65535";
}

std::string wrong_address(std::string_view address) {
  const std::size_t colon = address.rfind(':');
  if (colon == std::string_view::npos) return "its port is missing";
  if (colon == 0) return "its address is missing";
  return wrong_port(address.substr(colon + 1));
}

std::string wrong_path(std::string_view path) {
  if (path.empty()) return "its path is missing";
  if (path.size() <= kMostSocketPath) return "";
  return "its path has " + std::to_string(path.size()) + " bytes; the limit is " +
         std::to_string(kMostSocketPath);
}

std::string wrong(std::string_view endpoint) {
  const std::size_t colon = endpoint.find("://");
  if (colon == std::string_view::npos) return "it lacks ipc:// or tcp:// at its beginning";
  const std::string_view scheme = endpoint.substr(0, colon);
  const std::string_view rest = endpoint.substr(colon + 3);
  if (scheme == "ipc") return wrong_path(rest);
  if (scheme == "tcp") return wrong_address(rest);
  if (scheme == "inproc") return "other processes can't reach it";
  return "unknown transport '" + std::string(scheme) + "'";
}

}  // namespace

std::string publish_error(const std::vector<std::string>& endpoints) {
  for (auto at = endpoints.begin(); at != endpoints.end(); ++at) {
    const std::string what = "publish " + (at->empty() ? std::string("''") : *at) + ": ";
    if (*at == "none") {
      if (endpoints.size() == 1) return "";
      return what + "it excludes every other endpoint; give none alone, or leave it out";
    }
    if (const std::string why = wrong(*at); !why.empty())
      return what + why + "; give an endpoint such as " + kExamples + ", or none";
    if (std::find(endpoints.begin(), at, *at) != at)
      return what + "it is given twice; give each endpoint once";
  }
  return "";
}

std::optional<std::string> socket_file(const std::string& endpoint) {
  constexpr std::string_view kScheme = "ipc://";
  if (!endpoint.starts_with(kScheme)) return std::nullopt;
  const std::string file = endpoint.substr(kScheme.size());
  // '@' begins an abstract name; '*' asks for any name.
  if (file.empty() || file[0] == '@' || file[0] == '*') return std::nullopt;
  return file;
}

}  // namespace moetrace
