// The types of settings: their values as JSON, in flags and in environment variables. A new type is
// one more set of these four functions, and one more alternative of SettingMember (setting.hpp).
#pragma once

#include <string>
#include <vector>

#include "daemon/config/json.hpp"
#include "daemon/config/quantities.hpp"
#include "shm/abi.h"

namespace moetrace {

// take_value(): the JSON value becomes `to`. Returns "", or what was expected instead: "a text".
// value_json(): its inverse.
// variable_json(): the text of an environment variable as JSON, for take_value().
// flag_json(): the texts of a flag, one for each time that it was given.
std::string take_value(const ConfigJson& value, std::string& to);
std::string take_value(const ConfigJson& value, bool& to);
std::string take_value(const ConfigJson& value, std::vector<std::string>& to);
std::string take_value(const ConfigJson& value, moetrace_layer_mask& to);

inline ConfigJson value_json(const std::string& value) {
  return value;
}
inline ConfigJson value_json(bool value) {
  return value;
}
inline ConfigJson value_json(const std::vector<std::string>& value) {
  return value;
}
ConfigJson value_json(const moetrace_layer_mask& value);

// The third argument only chooses the type.
inline ConfigJson variable_json(const std::string& text, const std::string&) {
  return text;
}
// As the hook's MOETRACE: 1, yes, true, on; 0, no, false, off. Any other text stays a text.
ConfigJson variable_json(const std::string& text, bool);
// Blanks separate the items.
ConfigJson variable_json(const std::string& text, const std::vector<std::string>&);
inline ConfigJson variable_json(const std::string& text, const moetrace_layer_mask&) {
  return text;
}

template <class T>
ConfigJson flag_json(const std::vector<std::string>& texts, const T& type) {
  return variable_json(texts.back(), type);
}
inline ConfigJson flag_json(const std::vector<std::string>& texts,
                            const std::vector<std::string>&) {
  return texts;
}

// A type whose values are a few words gives their list: word_list(T) in its namespace, in the order
// of an enumeration from 0 on.
template <class T>
concept Words = requires(T value) {
  word_list(value);
};

template <Words T>
std::string take_value(const ConfigJson& value, T& to) {
  std::string expected;
  int number = 0;
  for (const char* word : word_list(to)) {
    if (value == word) {
      to = static_cast<T>(number);
      return "";
    }
    expected += (expected.empty() ? "" : ", ") + std::string(word);
    ++number;
  }
  return "one of " + expected;
}

template <Words T>
ConfigJson value_json(const T& value) {
  return word_list(value)[static_cast<std::size_t>(value)];
}

template <Words T>
ConfigJson variable_json(const std::string& text, const T&) {
  return text;
}

// A value on one line. Bytes that are not UTF-8 become U+FFFD.
std::string shown_json(const ConfigJson& value);

}  // namespace moetrace
