// Where axes get their ticks, and how shares and layers are written on them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace moetrace::plot {

// 0.0813 as "8.13%", with `digits` decimals.
std::string as_percent(double share, int digits);

// The same with more decimals for a share so small that `digits` would show only zeros.
std::string as_share(double share, int digits);

// Layers as "0, 3–5, 9".
std::string layer_ranges(const std::vector<uint16_t>& layers);

// The smallest of 1, 2, 5, 10, 20, ... that divides 0 to `top` into at most `most` steps. At least
// 1, because counts are integers.
uint64_t count_step(uint64_t top, int most);

// The distance between id labels on an axis with `ids` ids, each `slot` points wide: the smallest
// round number of ids that takes at least `spacing` points. Round numbers are powers of two if
// `ids` is one (256 experts: 0, 16, 32, ...), else 1, 2, 5, 10, ...
uint32_t id_step(uint32_t ids, double slot, double spacing);

}  // namespace moetrace::plot
