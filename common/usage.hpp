// Command lines that can't be understood, in the project's own words: one line, "what; what to
// try", whatever CLI11 calls it. For the programs alone; knows nothing of what they do.
#pragma once

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace moetrace::command_line {

// "a, b, c"
inline std::string listed(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

// ---- values. Each option that takes a number or one of few words has one of these, so that no
// error of CLI11's conversions is ever seen.

template <class T>
bool parses(const std::string& text, T& value) {
  const char* const end = text.data() + text.size();
  const auto [stop, failed] = std::from_chars(text.data(), end, value);
  return failed == std::errc{} && stop == end;
}

template <class T>
CLI::Validator whole_number(T low = std::numeric_limits<T>::min(),
                            T high = std::numeric_limits<T>::max()) {
  const auto check = [low, high](const std::string& text) {
    T value = 0;
    if (parses(text, value) && value >= low && value <= high) return std::string();
    const bool bounded = sizeof(T) < 8 || high != std::numeric_limits<T>::max();
    return "'" + text + "' is no whole number from " + std::to_string(low) +
           (bounded ? " to " + std::to_string(high) : " on");
  };
  return {check, ""};
}

inline CLI::Validator positive_number() {
  const auto check = [](const std::string& text) {
    double value = 0;
    if (parses(text, value) && std::isfinite(value) && value > 0) return std::string();
    return "'" + text + "' is no number above 0";
  };
  return {check, ""};
}

inline CLI::Validator one_of(std::vector<std::string> words) {
  const auto check = [words = std::move(words)](const std::string& text) {
    for (const std::string& word : words) {
      if (word == text) return std::string();
    }
    return "'" + text + "' is none of " + listed(words);
  };
  return {check, ""};
}

// ---- parsing

// Each flag refuses a value, and each option an empty one, or an option's name in its place.
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

// `words`: the command line without the program's name. Throws CLI::ParseError.
inline void parse(CLI::App& app, std::vector<std::string> words) {
  refuse_odd_values(app);
  // Of "--option=" CLI11 would take the next word as the value.
  for (auto word = words.begin(); word != words.end() && *word != "--"; ++word) {
    if (!word->starts_with("--") || word->find('=') != word->size() - 1) continue;
    word->pop_back();
    word = words.insert(word + 1, "");
  }
  std::reverse(words.begin(), words.end());  // CLI11 takes a vector from its back
  app.parse(std::move(words));
}

// ---- errors

// The command whose words were wrong: `app` or the last of its subcommands that was begun, and how
// to call it.
struct Place {
  const CLI::App* app;
  std::string call;  // "moetrace tail"
};

inline Place place_of_error(const CLI::App& app) {
  Place place{&app, app.get_name()};
  for (auto begun = app.get_subcommands(); !begun.empty();) {
    place.app = begun.back();
    place.call += " " + place.app->get_name();
    begun = place.app->get_subcommands();
  }
  return place;
}

inline std::vector<std::string> command_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands(nullptr)) names.push_back(command->get_name());
  return names;
}

// The text before `end`; empty if that is not there.
inline std::string before(const std::string& text, std::string_view end) {
  const std::size_t at = text.find(end);
  return at == std::string::npos ? "" : text.substr(0, at);
}

// What is wrong. CLI11's errors have nothing but their texts, so names are taken from these; what
// our options can't cause stays as it says it.
inline std::string what_is_wrong(const CLI::App& app, const CLI::ParseError& error) {
  std::string text = error.what();
  const bool extras = dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr;
  const bool required = dynamic_cast<const CLI::RequiredError*>(&error) != nullptr;
  if (extras || required) {
    // A name that was mistyped is also why the right one is missing.
    const std::vector<std::string> extra = app.remaining(true);
    const std::string commands = listed(command_names(app));
    const auto option = std::find_if(extra.begin(), extra.end(),
                                     [](const std::string& word) { return word.starts_with("-"); });
    if (option != extra.end()) return "there is no option " + *option;
    if (!extra.empty() && !commands.empty())
      return "there is no command '" + extra.front() + "', only " + commands;
    const std::string name = before(text, " is required");
    if (name == "A subcommand") return "a command is missing, one of " + commands;
    if (!name.empty()) return name + " is missing";
    if (!extra.empty()) return "'" + extra.front() + "' is one word too many";
  }
  if (dynamic_cast<const CLI::ArgumentMismatch*>(&error) != nullptr) {
    if (const std::string name = before(text, " was given a disallowed flag override");
        !name.empty())
      return "--" + name + " takes no value";
    if (text.ends_with(" missing")) return before(text, ":") + ": its value is missing";
    if (const std::string name = before(text, ": At Most 1 "); !name.empty())
      return name + " is there more than once";
  }
  if (dynamic_cast<const CLI::ExcludesError*>(&error) != nullptr) {
    if (const std::string name = before(text, " excludes "); !name.empty())
      return name + " and " + text.substr(name.size() + std::string_view(" excludes ").size()) +
             " exclude each other";
  }
  return text;
}

// For a parser's error that is one, and not a call for help: the line without the program's name.
inline std::string usage_line(const CLI::App& app, const CLI::ParseError& error) {
  const Place place = place_of_error(app);
  const std::string command =
      place.app == &app ? "" : place.call.substr(app.get_name().size() + 1) + ": ";
  std::string line = command + what_is_wrong(*place.app, error);
  std::replace(line.begin(), line.end(), '\n', ' ');
  return line + "; see " + place.call + " --help";
}

}  // namespace moetrace::command_line
