#include "daemon/config/value_types.hpp"

#include <sstream>

#include "shm/layer_mask.hpp"

namespace moetrace {

std::string take_value(const ConfigJson& value, std::string& to) {
  if (!value.is_string()) return "a text";
  to = value.get<std::string>();
  // A path ends there for the system.
  return to.find('\0') == std::string::npos ? "" : "a text without a zero byte";
}

std::string take_value(const ConfigJson& value, bool& to) {
  if (!value.is_boolean()) return "true or false";
  to = value.get<bool>();
  return "";
}

std::string take_value(const ConfigJson& value, std::vector<std::string>& to) {
  const char* const expected = "a list of texts";
  if (!value.is_array()) return expected;
  to.clear();
  for (const ConfigJson& item : value) {
    if (!take_value(item, to.emplace_back()).empty()) return expected;
  }
  return "";
}

std::string take_value(const ConfigJson& value, moetrace_layer_mask& to) {
  std::string text;
  const auto mask =
      take_value(value, text).empty() ? parse_layers(text, MOETRACE_MAX_LAYERS) : std::nullopt;
  if (!mask) return "layers from 0 to 255, such as \"0,5-7\", or \"all\"";
  to = *mask;
  return "";
}

ConfigJson value_json(const moetrace_layer_mask& value) {
  if (count_layers(value) == MOETRACE_MAX_LAYERS) return "all";
  return format_layers(value);
}

ConfigJson variable_json(const std::string& text, bool) {
  for (const char* word : {"1", "yes", "true", "on"}) {
    if (text == word) return true;
  }
  for (const char* word : {"0", "no", "false", "off"}) {
    if (text == word) return false;
  }
  return text;
}

ConfigJson variable_json(const std::string& text, const std::vector<std::string>&) {
  std::istringstream words(text);
  ConfigJson list = ConfigJson::array();
  for (std::string word; words >> word;) list.push_back(word);
  return list;
}

std::string shown_json(const ConfigJson& value) {
  return value.dump(-1, ' ', false, ConfigJson::error_handler_t::replace);
}

}  // namespace moetrace
