#include "daemon/config/known_variables.hpp"

#include <unistd.h>

#include <algorithm>
#include <string_view>

#include "daemon/config/near_name.hpp"

namespace moetrace {
namespace {

constexpr std::string_view kPrefix = "MOETRACE_";

// Without the prefix.
constexpr const char* kOfOthers[] = {
    // the hook
    "DIR", "GROUP", "LAYERS", "RING_MB", "SAMPLE", "SESSION",
    // the Python package
    "LIBRARY", "READER_LIBRARY",
    // scripts/
    "BUILD", "CHECK_DEVICE", "JOBS", "NVCC"};

}  // namespace

std::vector<std::string> mistyped_variables(const std::vector<std::string>& own) {
  std::vector<std::string> known(std::begin(kOfOthers), std::end(kOfOthers));
  for (const std::string& name : own) known.push_back(name.substr(kPrefix.size()));
  std::vector<std::string> lines;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    std::string_view name = *variable;
    name = name.substr(0, name.find('='));
    if (!name.starts_with(kPrefix)) continue;
    name.remove_prefix(kPrefix.size());
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    const std::string near = near_name(name, known);
    if (near.empty()) continue;
    lines.push_back(std::string(kPrefix) + std::string(name) +
                    ": unknown environment variable, ignored; did you mean " +
                    std::string(kPrefix) + near + "?");
  }
  return lines;
}

}  // namespace moetrace
