// Command lines: validators for option values, and one line for each mistake, "what; what to try",
// in the project's own words. For programs only.
#pragma once

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <vector>

namespace moetrace::command_line {

// "a, b, c"
inline std::string listed(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

// ---- values. Give each option that takes a number or one of a few words one of these, so that
// CLI11's own conversion never fails.

template <class T>
bool parses(const std::string& text, T& value) {
  const char* const end = text.data() + text.size();
  const auto [stop, failed] = std::from_chars(text.data(), end, value);
  return failed == std::errc{} && stop == end;
}

template <class T>
CLI::Validator integer(T low = std::numeric_limits<T>::min(),
                       T high = std::numeric_limits<T>::max()) {
  const auto check = [low, high](const std::string& text) {
    T value = 0;
    if (parses(text, value) && value >= low && value <= high) return std::string();
    const bool bounded = sizeof(T) < 8 || high != std::numeric_limits<T>::max();
    return "'" + text + "': expected an integer " +
           (bounded ? "from " + std::to_string(low) + " to " + std::to_string(high)
                    : ">= " + std::to_string(low));
  };
  return {check, ""};
}

inline CLI::Validator positive_number() {
  const auto check = [](const std::string& text) {
    double value = 0;
    if (parses(text, value) && std::isfinite(value) && value > 0) return std::string();
    return "'" + text + "': expected a number > 0";
  };
  return {check, ""};
}

inline CLI::Validator one_of(std::vector<std::string> words) {
  const auto check = [words = std::move(words)](const std::string& text) {
    if (std::find(words.begin(), words.end(), text) != words.end()) return std::string();
    return "'" + text + "': expected one of " + listed(words);
  };
  return {check, ""};
}

// ---- errors. CLI11's errors carry only a text, so the words below come from the state of the
// parser after the error.

// Flags refuse a value. Options refuse an empty value, and an option's name in its place.
inline void refuse_odd_values(CLI::App& app) {
  for (CLI::Option* option : app.get_options()) {
    if (option->get_items_expected_max() == 0) {
      option->disable_flag_override();
      continue;
    }
    const bool named = !option->get_positional();
    const auto check = [named](const std::string& text) {
      if (text.empty()) return std::string("its value is missing");
      if (named && text.starts_with("--")) return "its value is missing before " + text;
      return std::string();
    };
    option->check(CLI::Validator(check, ""));
  }
  for (CLI::App* command : app.get_subcommands(nullptr)) refuse_odd_values(*command);
}

// `app`, then the subcommands of the command line, down to the last one that it names.
inline std::vector<const CLI::App*> commands_begun(const CLI::App& app) {
  std::vector<const CLI::App*> begun{&app};
  for (auto next = app.get_subcommands(); !next.empty(); next = begun.back()->get_subcommands())
    begun.push_back(next.back());
  return begun;
}

// An option of the command line that is called `name`, with its dashes.
inline const CLI::Option* find_option(const CLI::App& app, const std::string& name) {
  for (const CLI::App* command : commands_begun(app)) {
    if (const CLI::Option* option = command->get_option_no_throw(name)) return option;
  }
  return nullptr;
}

// The options of the command line for which `wanted` is true, the first one of them.
template <class Wanted>
const CLI::Option* first_option(const CLI::App& app, Wanted wanted) {
  for (const CLI::App* command : commands_begun(app)) {
    for (const CLI::Option* option : command->get_options()) {
      if (wanted(*option)) return option;
    }
  }
  return nullptr;
}

// A word that no option or command takes, or an option or command that is required.
inline std::string what_does_not_fit(const CLI::App& app) {
  const CLI::App& command = *commands_begun(app).back();
  std::vector<std::string> names;
  for (const CLI::App* sub : command.get_subcommands(nullptr)) names.push_back(sub->get_name());
  // An unknown word comes first: it may be a mistyped form of what is missing.
  const std::vector<std::string> extra = command.remaining(true);
  const auto unknown = std::find_if(extra.begin(), extra.end(),
                                    [](const std::string& word) { return word.starts_with("-"); });
  if (unknown != extra.end()) return "unknown option " + *unknown;
  if (!extra.empty() && !names.empty())
    return "unknown command '" + extra.front() + "': expected one of " + listed(names);
  if (!names.empty() && command.get_subcommands().empty() &&
      command.get_require_subcommand_min() > 0)
    return "a command is missing: expected one of " + listed(names);
  const auto* missing = first_option(
      app, [](const CLI::Option& option) { return option.get_required() && option.count() == 0; });
  if (missing != nullptr) return missing->get_name() + " is missing";
  return extra.empty() ? "" : "unexpected argument '" + extra.front() + "'";
}

// An option that was given more than once, a flag with a value, or an option without one.
// `words`: the command line without the program's name.
inline std::string what_is_misused(const CLI::App& app, const std::vector<std::string>& words) {
  const auto* repeated = first_option(app, [](const CLI::Option& option) {
    const int most = option.get_items_expected_max();
    return most > 0 && option.count() > static_cast<std::size_t>(most);
  });
  if (repeated != nullptr) return repeated->get_name() + " is given more than once";
  for (const std::string& word : words) {
    const std::size_t equals = word.find('=');
    if (!word.starts_with("--") || equals == std::string::npos) continue;
    const CLI::Option* option = find_option(app, word.substr(0, equals));
    if (option != nullptr && option->get_items_expected_max() == 0)
      return option->get_name() + " takes no value";
  }
  // CLI11 takes any next word as the value, so only the last word can lack one.
  const CLI::Option* last = words.empty() ? nullptr : find_option(app, words.back());
  return last != nullptr ? last->get_name() + ": its value is missing" : "";
}

inline std::string what_is_excluded(const CLI::App& app) {
  const auto given = [](const CLI::Option* option) { return option->count() > 0; };
  const auto* first = first_option(app, [&](const CLI::Option& option) {
    const auto& others = option.get_excludes();
    return given(&option) && std::any_of(others.begin(), others.end(), given);
  });
  if (first == nullptr) return "";
  const auto& others = first->get_excludes();
  return first->get_name() + " and " +
         (*std::find_if(others.begin(), others.end(), given))->get_name() + " exclude each other";
}

// What is wrong with the command line; CLI11's own text where none of the above explains it.
inline std::string what_is_wrong(const CLI::App& app, const CLI::ParseError& error,
                                 const std::vector<std::string>& words) {
  std::string text;
  if (dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr ||
      dynamic_cast<const CLI::RequiredError*>(&error) != nullptr) {
    text = what_does_not_fit(app);
  } else if (dynamic_cast<const CLI::ArgumentMismatch*>(&error) != nullptr) {
    text = what_is_misused(app, words);
  } else if (dynamic_cast<const CLI::ExcludesError*>(&error) != nullptr) {
    text = what_is_excluded(app);
  }
  return text.empty() ? error.what() : text;
}

// ---- parsing

// `words`: the command line without the program's name. Throws CLI::Success for a call for help or
// the version, else CLI::ParseError, which usage_line() turns into a line.
inline void parse(CLI::App& app, std::vector<std::string> words) {
  refuse_odd_values(app);
  // CLI11 would take the word after "--option=" as the value.
  for (auto word = words.begin(); word != words.end() && *word != "--"; ++word) {
    if (!word->starts_with("--") || word->find('=') != word->size() - 1) continue;
    word->pop_back();
    word = words.insert(word + 1, "");
  }
  try {
    // CLI11 takes the words of a vector from its back.
    app.parse(std::vector<std::string>(words.rbegin(), words.rend()));
  } catch (const CLI::Success&) {
    throw;
  } catch (const CLI::ParseError& error) {
    throw CLI::ParseError(what_is_wrong(app, error, words), error.get_exit_code());
  }
}

// The line for an error of parse(), without the program's name.
inline std::string usage_line(const CLI::App& app, const CLI::ParseError& error) {
  std::string commands;
  for (const CLI::App* command : commands_begun(app)) {
    if (command != &app) commands += " " + command->get_name();
  }
  std::string line = (commands.empty() ? "" : commands.substr(1) + ": ") + error.what();
  std::replace(line.begin(), line.end(), '\n', ' ');
  return line + "; see " + app.get_name() + commands + " --help";
}

}  // namespace moetrace::command_line
