// Text for people: numbers and JSON strings.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace moetrace {

// 1234567 -> "1,234,567"
std::string grouped(std::uint64_t number);
// 1, "row" -> "1 row"; 2,000, "row" -> "2,000 rows"
std::string counted(std::uint64_t number, std::string_view thing);
// 0.1234 -> "12.3 %"
std::string percent(double share);
// A fixed number of decimals.
std::string decimals(double number, int digits);
// At most `width` characters, counted as UTF-8 code points; a cut is shown by a final "…".
std::string shortened(std::string_view text, std::size_t width);
// What of the text's lines a screen of this size shows: the first ones, each cut to the width. If
// some don't fit, the last line of the screen says how many.
std::string fitted(std::string_view text, std::size_t rows, std::size_t columns);

}  // namespace moetrace
