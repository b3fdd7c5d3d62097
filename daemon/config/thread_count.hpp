// A setting that is a number of threads.
#pragma once

#include <string>

#include "daemon/config/json.hpp"

namespace moetrace {

// 1 to kMost, or 0: "auto", a number that fits the machine.
struct ThreadCount {
  static constexpr unsigned kMost = 16;
  unsigned count = 0;

  // The number itself. "auto": a quarter of the cores that this process may use, from 1 to 4, so
  // that most of the machine is left to the engine.
  unsigned threads() const;
};

// As value_types.hpp says.
std::string take_value(const ConfigJson& value, ThreadCount& to);
ConfigJson value_json(const ThreadCount& value);
// Digits become a number. Any other text stays a text.
ConfigJson variable_json(const std::string& text, const ThreadCount&);

}  // namespace moetrace
