// The table of moetraced's settings. Flags, environment variables, keys of the configuration file,
// --print-config, --help and SIGHUP all follow from it: a new setting is one member of
// CollectorOptions and one entry of the table, and a row of the table in docs/operations.md.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "daemon/collector/options.hpp"
#include "daemon/config/value_types.hpp"

namespace moetrace {

// The member that a setting fills. Its type is the setting's type (value_types.hpp).
using SettingMember =
    std::variant<std::string CollectorOptions::*, bool CollectorOptions::*,
                 std::vector<std::string> CollectorOptions::*,
                 moetrace_layer_mask CollectorOptions::*, RowsPlace CollectorOptions::*,
                 RowWeights CollectorOptions::*, RowCompression CollectorOptions::*,
                 ByteSize CollectorOptions::*, TimeSpan CollectorOptions::*,
                 KeptCount CollectorOptions::*, ThreadCount CollectorOptions::*>;

// What SIGHUP does with a changed value.
enum class OnReload {
  // The old value holds until a restart.
  kKept,
  kApplied,
  // Live traces keep the old value.
  kForNewTraces,
};

struct Setting {
  // The key in the file, such as "output_dir". The flag is --output-dir; a switch, whose type is
  // bool, also has --no-….
  std::string key;
  std::string variable;
  SettingMember member;
  OnReload on_reload;
  std::string help;
  // For --help, if default_options() does not say it well enough.
  std::string shown_default = {};
  // Why the value can't be, or "". Values of the right type only.
  std::string (*wrong)(const CollectorOptions& options) = nullptr;
  // The key of a setting that can't hold beside this one. Whichever comes from the better source
  // holds.
  std::string excludes = {};

  std::string flag() const;
  ConfigJson value(const CollectorOptions& options) const;
  // Returns "", or what was expected instead.
  std::string take(const ConfigJson& value, CollectorOptions& options) const;
  bool is_switch() const;
  // A flag that may be repeated.
  bool is_list() const;
  // "" for a text, [] for a list: as if the setting were not given.
  bool is_unset(const ConfigJson& value) const;
};

const std::vector<Setting>& collector_settings();

// The defaults on this machine, in this environment: $STATE_DIRECTORY is the service's folder.
CollectorOptions default_options();

}  // namespace moetrace
