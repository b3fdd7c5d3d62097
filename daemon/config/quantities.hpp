// Settings that are quantities: sizes such as 10G, times such as 2h, and counts.
#pragma once

#include <cstdint>
#include <string>

#include "daemon/config/json.hpp"

namespace moetrace {

// 0: none. Text: a number and K, M, G or T, which are powers of 1024 (KiB, MiB, GiB and TiB are the
// same), or a number of bytes; "none".
struct ByteSize {
  std::uint64_t bytes = 0;
};
// 0: none. Text: a number and s, m, h or d; "none".
struct TimeSpan {
  std::uint64_t seconds = 0;
};
// 0: all. A number from 1 on; "all".
struct KeptCount {
  std::uint64_t count = 0;
};

// As value_types.hpp says.
std::string take_value(const ConfigJson& value, ByteSize& to);
std::string take_value(const ConfigJson& value, TimeSpan& to);
std::string take_value(const ConfigJson& value, KeptCount& to);
ConfigJson value_json(const ByteSize& value);
ConfigJson value_json(const TimeSpan& value);
ConfigJson value_json(const KeptCount& value);
inline ConfigJson variable_json(const std::string& text, const ByteSize&) {
  return text;
}
inline ConfigJson variable_json(const std::string& text, const TimeSpan&) {
  return text;
}
// Digits become a number. Any other text stays a text.
ConfigJson variable_json(const std::string& text, const KeptCount&);

// The text of a size, exact: the largest unit of which it is a whole number. "none" for 0.
std::string size_text(const ByteSize& size);

}  // namespace moetrace
