#include "plotter/ticks.hpp"

#include <bit>
#include <cmath>

#include "common/text.hpp"

namespace moetrace::plot {
namespace {

// The number after this one in 1, 2, 5, 10, 20, 50, …
uint64_t next_round(uint64_t number) {
  uint64_t power = 1;
  while (power <= number / 10) power *= 10;
  return number / power == 2 ? 5 * power : 2 * number;
}

}  // namespace

std::string as_percent(double share, int digits) {
  return decimals(100 * share, digits) + "%";
}

std::string as_share(double share, int digits) {
  // As many digits as show the first one that is not 0.
  int enough = digits;
  while (share > 0 && enough < 9 && 100 * share * std::pow(10, enough) < 1) ++enough;
  return as_percent(share, enough > digits ? enough + 1 : digits);
}

std::string layer_ranges(const std::vector<uint16_t>& layers) {
  std::string text;
  for (size_t first = 0; first < layers.size();) {
    size_t last = first;
    while (last + 1 < layers.size() && layers[last + 1] == layers[last] + 1) ++last;
    if (!text.empty()) text += ", ";
    text += std::to_string(layers[first]);
    if (last > first) text += (last == first + 1 ? ", " : "–") + std::to_string(layers[last]);
    first = last + 1;
  }
  return text;
}

uint64_t count_step(uint64_t top, int most) {
  uint64_t step = 1;
  while (top / step > static_cast<uint64_t>(most)) step = next_round(step);
  return step;
}

uint32_t id_step(uint32_t ids, double slot, double spacing) {
  uint64_t step = 1;
  while (static_cast<double>(step) * slot < spacing && step < ids) {
    step = std::has_single_bit(ids) ? 2 * step : next_round(step);
  }
  return static_cast<uint32_t>(step);
}

}  // namespace moetrace::plot
