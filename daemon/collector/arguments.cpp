#include "daemon/collector/arguments.hpp"

#include <CLI/CLI.hpp>
#include <memory>

#include "common/usage.hpp"
#include "daemon/collector/setting.hpp"
#include "daemon/config/known_variables.hpp"

namespace moetrace {
namespace {

const char* reload_text(OnReload on_reload) {
  switch (on_reload) {
    case OnReload::kApplied:
      return "SIGHUP reloads it";
    case OnReload::kForNewTraces:
      return "SIGHUP reloads it for new traces";
    case OnReload::kKept:
      break;
  }
  return "a change needs a restart";
}

std::string help_text(const Setting& setting) {
  std::string value = setting.shown_default;
  if (value.empty()) {
    const ConfigJson json = setting.value(default_options());
    value = json.is_string() ? json.get<std::string>() : shown_json(json);
  }
  return setting.help + " [$" + setting.variable + "; default: " + value + "; " +
         reload_text(setting.on_reload) + "]";
}

// The flags of a setting, and what the command line gave them.
struct Flag {
  const Setting* setting = nullptr;
  std::vector<std::string> texts;
  bool on = false;
  CLI::Option* option = nullptr;
};

// Not a copy: CLI11 keeps the addresses of `texts` and `on`.
std::vector<std::unique_ptr<Flag>> add_flags(CLI::App& app) {
  std::vector<std::unique_ptr<Flag>> flags;
  for (const Setting& setting : collector_settings()) {
    Flag& flag = *flags.emplace_back(std::make_unique<Flag>());
    flag.setting = &setting;
    const std::string name = setting.flag();
    if (setting.is_switch()) {
      flag.option = app.add_flag(name + ",!--no-" + name.substr(2), flag.on, help_text(setting));
    } else {
      flag.option = app.add_option(name, flag.texts, help_text(setting))->expected(1);
      if (setting.is_list()) flag.option->take_all();
    }
    for (const auto& other : flags) {
      if (other->setting->key == setting.excludes) other->option->excludes(flag.option);
    }
  }
  return flags;
}

}  // namespace

Result<Arguments> parse_arguments(int argc, const char* const* argv) {
  CLI::App app("moetraced: writes the rings of a session to trace files, ZeroMQ and pictures",
               "moetraced");
  app.set_version_flag("--version", "moetraced " MOETRACE_VERSION);
  CommandLine given;
  bool print_config = false;
  app.add_option("--config", given.config,
                 "JSON file with settings, as --print-config prints them [$MOETRACE_CONFIG; "
                 "default: $CONFIGURATION_DIRECTORY/moetraced.json if it exists]");
  app.add_flag("--print-config", print_config,
               "print all settings, and where each of them comes from, as a JSON file, and end");
  const auto flags = add_flags(app);
  app.add_option(
         "--ready-fd", given.ready_fd,
         "write a line \"ready ENDPOINT...\" to this descriptor when ready, then a line "
         "\"trace PATH\" for each trace file that is begun or continued, and \"removed PATH\"")
      ->group("")
      ->check(command_line::integer<int>(0));
  try {
    command_line::parse(app, {argv + 1, argv + argc});
  } catch (const CLI::CallForHelp&) {
    return Arguments{{}, {}, app.help()};
  } catch (const CLI::CallForVersion&) {
    return Arguments{{}, {}, app.version() + "\n"};
  } catch (const CLI::ParseError& error) {
    return Error{ErrorCode::kBadArgument, command_line::usage_line(app, error)};
  }
  for (const auto& flag : flags) {
    if (flag->option->count() == 0) continue;
    given.flags[flag->setting->key] = flag->setting->is_switch()
                                          ? std::vector<std::string>{flag->on ? "true" : "false"}
                                          : flag->texts;
  }
  auto settings = read_settings(given);
  if (!settings) return settings.error();
  std::vector<std::string> variables = {"MOETRACE_CONFIG"};
  for (const Setting& setting : collector_settings()) variables.push_back(setting.variable);
  std::optional<std::string> text;
  if (print_config) text = print_settings(*settings);
  return Arguments{std::move(*settings), mistyped_variables(variables), std::move(text)};
}

}  // namespace moetrace
