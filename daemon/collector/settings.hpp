// Reads moetraced's settings from their sources: a flag goes before the environment variable, that
// before the configuration file, that before the default.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "daemon/collector/options.hpp"
#include "shm/errors.hpp"

namespace moetrace {

// What the command line says about settings.
struct CommandLine {
  // The texts of each flag that was given, by the setting's key; "true" or "false" for a switch.
  std::map<std::string, std::vector<std::string>> flags;
  // --config; "" without it.
  std::string config;
  int ready_fd = -1;
};

// Where a value came from.
struct Origin {
  // Ascending precedence.
  enum Source { kDefault, kFile, kVariable, kFlag };
  Source source = kDefault;
  // The path, the variable or the flag.
  std::string name = {};
};

struct CollectorSettings {
  CommandLine command_line;
  CollectorOptions options;
  // Parallel to collector_settings().
  std::vector<Origin> origins;
  // The configuration file; "": none.
  std::string file;
};

// kBadArgument: a line that names the source, the value, what was expected, and the nearest known
// key.
Result<CollectorSettings> read_settings(const CommandLine& command_line);

struct Reloaded {
  CollectorSettings settings;
  // One line about what changed and what did not; "" if no setting has changed.
  std::string line;
  // Some changed settings keep their old value.
  bool kept = false;
};
// Reads all sources again. What can't be reloaded keeps the value and the origin of `now`.
Result<Reloaded> reload_settings(const CollectorSettings& now);

// All settings as JSON, with a comment on each origin. It is a configuration file.
std::string print_settings(const CollectorSettings& settings);

}  // namespace moetrace
