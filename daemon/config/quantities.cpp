#include "daemon/config/quantities.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <optional>
#include <span>
#include <string_view>

namespace moetrace {
namespace {

struct Unit {
  std::string_view name;
  std::uint64_t factor;
};

// Ascending. The first one needs no name in a size.
constexpr std::array<Unit, 5> kSizeUnits = {{{"", 1},
                                             {"K", std::uint64_t{1} << 10},
                                             {"M", std::uint64_t{1} << 20},
                                             {"G", std::uint64_t{1} << 30},
                                             {"T", std::uint64_t{1} << 40}}};
constexpr std::array<Unit, 4> kTimeUnits = {{{"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86400}}};

// Products below it are exact in a double, and fit the signed 64 bits of a file's length.
constexpr double kMost = 9007199254740992.0;  // 2^53

// A decimal number and a unit; a part of a byte or second is cut off. Nothing for any other text,
// and for less than 1.
std::optional<std::uint64_t> quantity(std::string_view text, std::span<const Unit> units) {
  double number = 0;
  const auto [end, failed] =
      std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  if (failed != std::errc{} || !std::isfinite(number)) return std::nullopt;
  const std::string_view name = text.substr(static_cast<std::size_t>(end - text.data()));
  const auto unit = std::find_if(units.begin(), units.end(),
                                 [&](const Unit& candidate) { return candidate.name == name; });
  if (unit == units.end()) return std::nullopt;
  const double product = number * static_cast<double>(unit->factor);
  if (!(product >= 1 && product <= kMost)) return std::nullopt;
  return static_cast<std::uint64_t>(product);
}

std::string text_of(std::uint64_t value, std::span<const Unit> units) {
  if (value == 0) return "none";
  const auto unit = std::find_if(units.rbegin(), units.rend(), [&](const Unit& candidate) {
    return value % candidate.factor == 0;
  });
  return std::to_string(value / unit->factor) + std::string(unit->name);
}

}  // namespace

std::string take_value(const ConfigJson& value, ByteSize& to) {
  const char* const expected =
      "a size such as 500M, 10G or 1.5T (powers of 1024; also KiB, MiB, GiB, TiB), or none";
  if (!value.is_string()) return expected;
  std::string text = value.get<std::string>();
  if (text == "none") {
    to = {};
    return "";
  }
  if (text.size() > 3 && text.ends_with("iB")) text.resize(text.size() - 2);
  const auto bytes = quantity(text, kSizeUnits);
  if (!bytes) return expected;
  to.bytes = *bytes;
  return "";
}

std::string take_value(const ConfigJson& value, TimeSpan& to) {
  const char* const expected = "a time such as 30s, 15m, 2h or 7d, at least a second, or none";
  if (!value.is_string()) return expected;
  const std::string text = value.get<std::string>();
  if (text == "none") {
    to = {};
    return "";
  }
  const auto seconds = quantity(text, kTimeUnits);
  if (!seconds) return expected;
  to.seconds = *seconds;
  return "";
}

std::string take_value(const ConfigJson& value, KeptCount& to) {
  if (value == "all") {
    to = {};
    return "";
  }
  if (!value.is_number_unsigned() || value == 0) return "a number from 1 on, or all";
  to.count = value.get<std::uint64_t>();
  return "";
}

ConfigJson value_json(const ByteSize& value) {
  return size_text(value);
}

ConfigJson value_json(const TimeSpan& value) {
  return text_of(value.seconds, kTimeUnits);
}

ConfigJson value_json(const KeptCount& value) {
  if (value.count == 0) return "all";
  return value.count;
}

ConfigJson variable_json(const std::string& text, const KeptCount&) {
  std::uint64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, failed] = std::from_chars(text.data(), end, number);
  if (failed != std::errc{} || stop != end) return text;
  return number;
}

std::string size_text(const ByteSize& size) {
  return text_of(size.bytes, kSizeUnits);
}

}  // namespace moetrace
