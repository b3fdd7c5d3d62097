// Pictures of more experts than a row of points can show: neighbours share a column, which shows
// the busiest of them, so that one busy expert among thousands is still seen.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

namespace moetrace::plot {

// How many experts share a column; 1 where each can have its own.
inline uint32_t experts_a_column(uint32_t experts, double width) {
  constexpr double kNarrowest = 1.5;
  const double most = std::max(1.0, std::floor(width / kNarrowest));
  return static_cast<uint32_t>(std::ceil(experts / most));
}

// By column: the largest of its values.
template <class T>
std::vector<T> busiest_of_each(const std::vector<T>& values, uint32_t experts_a_column) {
  std::vector<T> columns;
  for (size_t first = 0; first < values.size(); first += experts_a_column) {
    const size_t last = std::min(values.size(), first + experts_a_column);
    columns.push_back(*std::max_element(values.begin() + static_cast<std::ptrdiff_t>(first),
                                        values.begin() + static_cast<std::ptrdiff_t>(last)));
  }
  return columns;
}

// The name of the experts' axis. `what`: "bar", "cell".
inline std::string axis_of_experts(uint32_t experts_a_column, const std::string& what) {
  if (experts_a_column == 1) return "expert";
  return "experts; each " + what + " shows the busiest of " + std::to_string(experts_a_column) +
         " neighbours";
}

}  // namespace moetrace::plot
