// Numbers and lines as people read them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace moetrace {

// 1234567: "1,234,567"
std::string grouped(std::uint64_t number);
// (1, "row"): "1 row"; (2000, "row"): "2,000 rows"
std::string counted(std::uint64_t number, std::string_view thing);
// 0.1234: "12.3 %"
std::string percent(double share);
// `number` with a fixed number of decimals.
std::string decimals(double number, int digits);
// At most `width` UTF-8 code points; a cut text ends with "…".
std::string shortened(std::string_view text, std::size_t width);
// The first lines of the text that fit a screen of this size, each cut to its width. If some lines
// don't fit, the last line of the screen gives their number.
std::string fitted(std::string_view text, std::size_t rows, std::size_t columns);

}  // namespace moetrace
