// Where axes get their ticks, and how numbers are written.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace moetrace::plot {

// 1234567 as "1,234,567".
std::string with_thousands(uint64_t number);

// 0.0813 as "8.13%": `decimals` digits behind the point.
std::string as_percent(double share, int decimals);

// The same for a share that may be tiny: with more digits where these would show only zeros.
std::string as_share(double share, int decimals);

// "12,805 tokens", "1 token".
std::string counted(uint64_t number, const std::string& what);

// Layers as "0, 3–5, 9".
std::string layer_ranges(const std::vector<uint16_t>& layers);

// 1, 2 or 5 times a power of ten, so that 0 to `top` takes at most `most` steps. At least 1: counts
// are whole.
uint64_t count_step(uint64_t top, int most);

// The distance of id labels on an axis with `ids` ids, each `slot` points wide: the smallest round
// one with at least `spacing` points. Powers of two if `ids` is one (256 experts: 0, 16, 32 …),
// else 1, 2, 5, 10 …
uint32_t id_step(uint32_t ids, double slot, double spacing);

}  // namespace moetrace::plot
