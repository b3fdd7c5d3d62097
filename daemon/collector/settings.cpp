#include "daemon/collector/settings.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include "common/text.hpp"
#include "daemon/collector/setting.hpp"
#include "daemon/config/config_file.hpp"
#include "daemon/config/near_name.hpp"

namespace moetrace {
namespace {

// A line shows a value only to name it.
constexpr std::size_t kLongestValue = 100;

const char* variable_text(const char* name) {
  const char* text = std::getenv(name);
  return text != nullptr && *text != '\0' ? text : nullptr;
}

// The configuration file; "": none. The service manager names the service's folder, so that no
// other collector on the machine takes the service's settings. Its file may be missing.
std::string config_path(const CommandLine& command_line) {
  if (!command_line.config.empty()) return command_line.config;
  if (const char* named = variable_text("MOETRACE_CONFIG")) return named;
  const char* folder = variable_text("CONFIGURATION_DIRECTORY");
  if (folder == nullptr) return "";
  std::string path = std::string(folder) + "/moetraced.json";
  struct stat status {};
  return ::stat(path.c_str(), &status) != 0 && errno == ENOENT ? "" : path;
}

class Reader {
 public:
  explicit Reader(const CommandLine& command_line) {
    settings_.command_line = command_line;
    settings_.options = default_options();
    settings_.options.ready_fd = command_line.ready_fd;
    settings_.origins.resize(collector_settings().size());
  }

  Result<CollectorSettings> read() {
    settings_.file = config_path(settings_.command_line);
    if (!settings_.file.empty()) {
      const auto entries = read_config_file(settings_.file);
      if (!entries) return entries.error();
      if (auto error = take_file(*entries)) return *error;
    }
    if (auto error = take_environment()) return *error;
    if (auto error = take_flags()) return *error;
    return settings_;
  }

 private:
  using Values = std::map<std::string, ConfigJson>;

  std::optional<Error> take_file(const ConfigEntries& entries) {
    std::vector<std::string> keys;
    for (const Setting& setting : collector_settings()) keys.push_back(setting.key);
    Values values;
    for (const auto& [key, value] : entries) {
      if (std::find(keys.begin(), keys.end(), key) == keys.end()) return unknown_key(key, keys);
      values.emplace(key, value);
    }
    return take(Origin::kFile, values);
  }

  std::optional<Error> take_environment() {
    Values values;
    for (const Setting& setting : collector_settings()) {
      const char* text = variable_text(setting.variable.c_str());
      if (text == nullptr) continue;
      values.emplace(
          setting.key,
          std::visit([&](const auto at) { return variable_json(text, settings_.options.*at); },
                     setting.member));
    }
    return take(Origin::kVariable, values);
  }

  std::optional<Error> take_flags() {
    Values values;
    for (const Setting& setting : collector_settings()) {
      const auto given = settings_.command_line.flags.find(setting.key);
      if (given == settings_.command_line.flags.end()) continue;
      values.emplace(
          setting.key,
          std::visit([&](const auto at) { return flag_json(given->second, settings_.options.*at); },
                     setting.member));
    }
    return take(Origin::kFlag, values);
  }

  // Takes what one source gives.
  std::optional<Error> take(Origin::Source source, const Values& values) {
    const auto& table = collector_settings();
    for (std::size_t n = 0; n < table.size(); ++n) {
      const Setting& setting = table[n];
      const auto given = values.find(setting.key);
      if (given == values.end()) continue;
      if (setting.is_unset(given->second)) continue;
      if (auto error = take_value_of(source, setting, given->second)) return error;
      settings_.origins[n] = {source, name_of(source, setting, given->second)};
      if (setting.excludes.empty()) continue;
      if (auto error = exclude_other(source, setting, values)) return error;
    }
    return std::nullopt;
  }

  std::optional<Error> take_value_of(Origin::Source source, const Setting& setting,
                                     const ConfigJson& value) {
    std::string why = setting.take(value, settings_.options);
    if (!why.empty()) {
      why.insert(0, "expected ");
    } else if (setting.wrong != nullptr) {
      why = setting.wrong(settings_.options);
    }
    if (why.empty()) return std::nullopt;
    return invalid(source, "invalid value " + shortened(shown_json(value), kLongestValue) +
                               " for " + shown_name(source, setting) + ": " + why);
  }

  // The setting that this one excludes goes back to its default, unless the same source has both.
  std::optional<Error> exclude_other(Origin::Source source, const Setting& setting,
                                     const Values& values) {
    const auto& table = collector_settings();
    const auto other = std::find_if(table.begin(), table.end(), [&](const Setting& candidate) {
      return candidate.key == setting.excludes;
    });
    const auto given = values.find(other->key);
    if (given != values.end() && !other->is_unset(given->second)) {
      return invalid(source, shown_name(source, setting) + " and " + shown_name(source, *other) +
                                 " exclude each other; keep one of them");
    }
    other->take(other->value(default_options()), settings_.options);
    settings_.origins[static_cast<std::size_t>(other - table.begin())] = {};
    return std::nullopt;
  }

  Error unknown_key(const std::string& key, const std::vector<std::string>& keys) const {
    const std::string near = near_name(key, keys);
    std::string listed;
    for (const std::string& known : keys) listed += (listed.empty() ? "" : ", ") + known;
    return invalid(
        Origin::kFile,
        "unknown key " + shortened(shown_json(key), kLongestValue) + "; " +
            (near.empty() ? "the keys are " + listed : "did you mean \"" + near + "\"?"));
  }

  Error invalid(Origin::Source source, const std::string& why) const {
    return {ErrorCode::kBadArgument, (source == Origin::kFile ? settings_.file + ": " : "") + why};
  }

  static std::string shown_name(Origin::Source source, const Setting& setting) {
    if (source == Origin::kFile) return "\"" + setting.key + "\"";
    return source == Origin::kVariable ? setting.variable : setting.flag();
  }

  std::string name_of(Origin::Source source, const Setting& setting,
                      const ConfigJson& value) const {
    if (source == Origin::kFlag && setting.is_switch() && value == false)
      return "--no-" + setting.flag().substr(2);
    return source == Origin::kFile ? settings_.file : shown_name(source, setting);
  }

  CollectorSettings settings_;
};

std::string origin_text(const Origin& origin) {
  switch (origin.source) {
    case Origin::kFile:
      // As JSON, so that a line break stays in the comment.
      return "file " + shown_json(origin.name);
    case Origin::kVariable:
      return "environment variable " + origin.name;
    case Origin::kFlag:
      return "flag " + origin.name;
    case Origin::kDefault:
      break;
  }
  return "default";
}

// Another setting holds instead of this one.
bool is_excluded(const CollectorSettings& settings, std::size_t n) {
  const auto& table = collector_settings();
  if (settings.origins[n].source != Origin::kDefault) return false;
  for (std::size_t other = 0; other < table.size(); ++other) {
    if (table[other].key == table[n].excludes)
      return settings.origins[other].source != Origin::kDefault;
  }
  return false;
}

}  // namespace

Result<CollectorSettings> read_settings(const CommandLine& command_line) {
  return Reader(command_line).read();
}

Result<Reloaded> reload_settings(const CollectorSettings& now) {
  auto read = read_settings(now.command_line);
  if (!read) return read.error();
  Reloaded reloaded{std::move(*read), "", false};
  CollectorSettings& next = reloaded.settings;
  std::string changed;
  std::string kept;
  const auto& table = collector_settings();
  for (std::size_t n = 0; n < table.size(); ++n) {
    const Setting& setting = table[n];
    const ConfigJson before = setting.value(now.options);
    const ConfigJson after = setting.value(next.options);
    if (before == after) continue;
    if (setting.on_reload == OnReload::kKept) {
      kept += "; " + setting.key + " stays " + shown_json(before) + " until a restart, not " +
              shown_json(after);
      setting.take(before, next.options);
      next.origins[n] = now.origins[n];
    } else {
      changed += "; " + setting.key + " is now " + shown_json(after) + ", not " +
                 shown_json(before) +
                 (setting.on_reload == OnReload::kForNewTraces ? ", for new traces" : "");
    }
  }
  const std::string& file = next.file.empty() ? now.file : next.file;
  if (!(changed + kept).empty())
    reloaded.line = "reloaded " + file + ": " + (changed + kept).substr(2);
  reloaded.kept = !kept.empty();
  return reloaded;
}

std::string print_settings(const CollectorSettings& settings) {
  const auto& table = collector_settings();
  struct Line {
    std::string entry;
    std::string comment;
  };
  std::vector<Line> lines;
  std::size_t last = 0;
  for (std::size_t n = 0; n < table.size(); ++n) {
    const Setting& setting = table[n];
    const std::string entry =
        "\"" + setting.key + "\": " + shown_json(setting.value(settings.options));
    if (is_excluded(settings, n)) {
      lines.push_back({"", entry + ": without effect beside \"" + setting.excludes + "\""});
    } else {
      last = lines.size();
      lines.push_back({entry, origin_text(settings.origins[n])});
    }
  }
  std::string text = "// moetraced " MOETRACE_VERSION
                     ": flags go before environment variables, those before the file.\n{\n";
  for (std::size_t n = 0; n < lines.size(); ++n) {
    const auto& [entry, comment] = lines[n];
    text += "  " + entry + (entry.empty() ? "" : n == last ? "  " : ",  ") + "// " + comment + "\n";
  }
  return text + "}\n";
}

}  // namespace moetrace
