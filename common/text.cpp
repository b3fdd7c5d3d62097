#include "common/text.hpp"

#include <algorithm>
#include <array>
#include <cstdio>

namespace moetrace {
namespace {

bool begins_character(char byte) {
  return (static_cast<unsigned char>(byte) & 0xC0) != 0x80;
}

}  // namespace

std::string grouped(std::uint64_t number) {
  const std::string digits = std::to_string(number);
  std::string text;
  for (std::size_t n = 0; n < digits.size(); ++n) {
    if (n > 0 && (digits.size() - n) % 3 == 0) text += ',';
    text += digits[n];
  }
  return text;
}

std::string counted(std::uint64_t number, std::string_view thing) {
  return grouped(number) + " " + std::string(thing) + (number == 1 ? "" : "s");
}

std::string decimals(double number, int digits) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%.*f", digits, number);
  return text.data();
}

std::string percent(double share) {
  return decimals(100 * share, 1) + " %";
}

std::string shortened(std::string_view text, std::size_t width) {
  const auto characters =
      static_cast<std::size_t>(std::count_if(text.begin(), text.end(), begins_character));
  if (characters <= width) return std::string(text);
  std::string kept;
  std::size_t taken = 0;
  for (const char byte : text) {
    if (begins_character(byte) && taken++ == width - 1) break;
    kept += byte;
  }
  return kept + "…";
}

std::string fitted(std::string_view text, std::size_t rows, std::size_t columns) {
  const auto lines = static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
  const std::size_t shown = lines <= rows ? lines : rows - 1;
  std::string screen;
  for (std::size_t line = 0; line < shown; ++line) {
    const std::size_t end = text.find('\n');
    screen += shortened(text.substr(0, end), columns) + "\n";
    text.remove_prefix(end + 1);
  }
  if (shown < lines)
    screen += shortened("(" + counted(lines - shown, "more line") + ")", columns) + "\n";
  return screen;
}

}  // namespace moetrace
